//! What was seen of a call.

use super::*;

impl Call {
    /// The texts heard so far, whole or in part.
    pub(in crate::conversation::tests) fn texts_heard(&self) -> Vec<&str> {
        self.heard.iter().map(|heard| heard.text.as_str()).collect()
    }

    /// When this text was first heard.
    pub(in crate::conversation::tests) fn heard_at(&self, text: &str) -> Option<u64> {
        self.heard
            .iter()
            .find(|heard| heard.text == text)
            .map(|heard| heard.from)
    }

    pub(in crate::conversation::tests) fn messages(&self) -> Vec<&Message> {
        let message = |(_, output): &'_ (u64, Output)| matches!(output, Output::Message(_));
        let messages = self.outputs.iter().filter(|output| message(output));
        messages
            .filter_map(|(_, output)| match output {
                Output::Message(message) => Some(message),
                _ => None,
            })
            .collect()
    }

    /// Who said what, for short.
    pub(in crate::conversation::tests) fn transcript_so_far(&self) -> Vec<(Role, &str)> {
        self.messages()
            .iter()
            .map(|message| (message.role, message.message.as_str()))
            .collect()
    }

    pub(in crate::conversation::tests) fn turns(&self) -> Vec<&TurnLedger> {
        self.outputs
            .iter()
            .filter_map(|(_, output)| match output {
                Output::Turn(ledger) => Some(ledger),
                _ => None,
            })
            .collect()
    }

    /// The messages of the last request to the model.
    pub(in crate::conversation::tests) fn last_prompt(&self) -> Vec<(ChatRole, String)> {
        let generate = self
            .outputs
            .iter()
            .rev()
            .find_map(|(_, output)| match output {
                Output::Generate { messages, .. } => Some(messages.clone()),
                _ => None,
            });
        generate
            .unwrap_or_default()
            .into_iter()
            .map(|message| (message.role, message.content))
            .collect()
    }

    pub(in crate::conversation::tests) fn count(&self, wanted: impl Fn(&Output) -> bool) -> usize {
        self.outputs
            .iter()
            .filter(|(_, output)| wanted(output))
            .count()
    }

    pub(in crate::conversation::tests) fn generates(&self) -> usize {
        self.count(|output| matches!(output, Output::Generate { .. }))
    }

    pub(in crate::conversation::tests) fn transcribes(&self) -> usize {
        self.count(|output| matches!(output, Output::Transcribe { .. }))
    }

    /// How long replies were in the making that were begun for nothing, where there were any.
    pub(in crate::conversation::tests) fn wasted(&self) -> Option<Duration> {
        let outputs = self.outputs.iter();
        let wasted = outputs.filter_map(|(_, output)| match output {
            Output::Progress(Progress::SpeculationDropped { wasted }) => Some(*wasted),
            _ => None,
        });
        wasted.reduce(|all, more| all + more)
    }

    pub(in crate::conversation::tests) fn saw(&self, progress: &Progress) -> bool {
        self.count(|output| matches!(output, Output::Progress(seen) if seen == progress)) > 0
    }

    /// When playback was first stopped.
    pub(in crate::conversation::tests) fn stopped_at(&self) -> Option<u64> {
        let stop = |(_, output): &&(u64, Output)| matches!(output, Output::StopPlayback { .. });
        self.outputs.iter().find(stop).map(|(at, _)| *at)
    }

    /// Something is playing now.
    pub(in crate::conversation::tests) fn is_speaking(&self) -> bool {
        !self.queue.is_empty()
    }
}
