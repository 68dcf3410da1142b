use super::*;
use crate::engines::ReplyUsage;

#[test]
fn the_default_settings_are_valid_and_each_mistake_is_named() {
    assert_eq!(GenerateSettings::default().validate(), Ok(()));
    let wrong = GenerateSettings {
        temperature: f32::NAN,
        top_p: 0.0,
        repetition_penalty: 0.5,
        max_tokens: 0,
        stop: vec![String::new(); 17],
    };
    let mistakes = wrong.validate().unwrap_err();
    assert_eq!(mistakes.len(), 6, "{mistakes:?}");
    for setting in [
        "temperature",
        "topP",
        "repetitionPenalty",
        "maxTokens",
        "stop",
    ] {
        assert!(
            mistakes.iter().any(|mistake| mistake.starts_with(setting)),
            "{setting}"
        );
    }
}

#[test]
fn settings_read_from_configuration_keep_the_defaults_of_what_is_not_named() {
    let settings: GenerateSettings = serde_json::from_str(r#"{"maxTokens": 40}"#).unwrap();
    assert_eq!(
        settings,
        GenerateSettings {
            max_tokens: 40,
            ..GenerateSettings::default()
        }
    );
    assert!(serde_json::from_str::<GenerateSettings>(r#"{"maxToken": 40}"#).is_err());
}

#[test]
fn instructions_stand_between_what_makes_replies_speakable() {
    let prompt = SpeechPrompt {
        before: "Phone. ".into(),
        after: " Be brief.\n".into(),
    };
    let message = prompt.system_message("\nWe open at nine.\n");
    assert_eq!(message.role, ChatRole::System);
    assert_eq!(message.content, "Phone.\n\nWe open at nine.\n\nBe brief.");
    let bare = SpeechPrompt {
        before: String::new(),
        after: String::new(),
    };
    assert_eq!(bare.system_message("We open.").content, "We open.");
}

#[test]
fn a_reply_cut_for_length_or_repetition_is_told_from_one_that_ended() {
    let generation = Generation::from_raw(7);
    let done = |finish| {
        let usage = ReplyUsage {
            prompt_tokens: 300,
            cached_tokens: 280,
            ..ReplyUsage::default()
        };
        let end = LlmEnd {
            finish: Some(finish),
            usage,
            dropped_messages: 0,
        };
        match event(
            generation,
            Response::Done {
                body: LlmResponse::End(end),
                payload: vec![],
            },
        ) {
            EngineEvent::ReplyDone {
                generation,
                finish,
                usage,
            } => (generation.get(), finish, usage.cached_tokens),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(done(LlmFinish::Stop), (7, FinishReason::Stop, 280));
    assert_eq!(done(LlmFinish::StopText), (7, FinishReason::Stop, 280));
    assert_eq!(done(LlmFinish::Length), (7, FinishReason::Length, 280));
    assert_eq!(done(LlmFinish::Repetition), (7, FinishReason::Length, 280));
}

#[test]
fn a_failure_reaches_the_call_as_it_is() {
    let error = EngineError::WorkerDied {
        engine: "llm".into(),
    };
    let got = event(Generation::from_raw(3), Response::Failed(error.clone()));
    assert!(
        matches!(got, EngineEvent::ReplyFailed { generation, error: got }
            if generation.get() == 3 && got == error)
    );
}

#[test]
fn requests_survive_the_pipe() {
    let request = LlmRequest::Generate {
        call: CallId::from_random([9; 16]),
        messages: vec![ChatMessage::new(ChatRole::User, "caf\u{e9} \"5\"\n")],
        settings: GenerateSettings {
            stop: vec!["\n\n".into()],
            ..GenerateSettings::default()
        },
        seed: u64::MAX,
    };
    let json = serde_json::to_vec(&request).unwrap();
    assert_eq!(
        serde_json::from_slice::<LlmRequest>(&json).unwrap(),
        request
    );
}
