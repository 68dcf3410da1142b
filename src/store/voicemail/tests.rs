use std::fs;

use super::*;
use crate::ids::CallId;
use crate::record::{Customer, RecordingEnd, VoicemailReason};
use crate::store::testing::{Place, on_both_databases};
use crate::store::tests::Folder;
use crate::store::{Entry, Journal};

on_both_databases![
    a_message_is_read_back_as_it_was_left,
    a_crash_at_any_moment_loses_no_message,
    the_journal_keeps_messages_and_forgets_those_that_came_to_nothing,
];

fn message(seed: u8) -> Voicemail {
    let mailbox = MailboxName::new("office");
    let id = VoicemailId::from_random([seed; 16]);
    Voicemail {
        id,
        file: message_path(&mailbox, id),
        mailbox,
        call_id: CallId::from_random([seed; 16]),
        customer: Some(Customer {
            number: "+4930123".to_owned(),
            name: Some("Ann".to_owned()),
        }),
        called: "sip:200@127.0.0.1".to_owned(),
        reason: VoicemailReason::Busy,
        state: VoicemailState::Recording,
        created_at: OffsetDateTime::from_unix_timestamp(1_790_000_000 + i64::from(seed))
            .expect("in range"),
        duration_ms: 0,
        ended: None,
        transcription: Transcription::Pending,
        transcript: None,
    }
}

/// The message as it is once somebody hung up on it.
fn complete(mut message: Voicemail, duration_ms: u64) -> Voicemail {
    message.state = VoicemailState::New;
    message.duration_ms = duration_ms;
    message.ended = Some(RecordingEnd::HungUp);
    message
}

async fn save_now(store: &Store, message: &Voicemail) {
    let mut connection = store.pool.acquire().await.expect("a connection");
    save(&mut connection, message).await.expect("saved");
}

fn samples(path: &std::path::Path) -> Vec<i16> {
    let reader = hound::WavReader::open(path).expect("it plays");
    assert_eq!(reader.spec().sample_rate, 8000);
    reader.into_samples().map(|s| s.expect("whole")).collect()
}

async fn a_message_is_read_back_as_it_was_left(place: Place) {
    let store = place.open().await;
    let draft = message(1);
    save_now(&store, &draft).await;
    assert_eq!(
        store.voicemail(draft.id).await.expect("read"),
        Some(draft.clone())
    );
    let left = complete(draft, 4000);
    save_now(&store, &left).await;
    let kept = store.voicemail(left.id).await.expect("read");
    assert_eq!(kept.as_ref(), Some(&left));
    let counts = store.mailbox_counts(&left.mailbox).await.expect("counted");
    assert_eq!(counts, MailboxCounts { new: 1, saved: 0 });
    assert_eq!(
        store
            .mailbox_length_ms(&left.mailbox)
            .await
            .expect("summed"),
        4000
    );
    let pending = store.untranscribed_voicemails().await.expect("read");
    assert_eq!(pending, std::slice::from_ref(&left));
    store
        .keep_transcript(left.id, Some("Call me back."))
        .await
        .expect("kept");
    assert!(
        store
            .mark_voicemail(left.id, VoicemailState::Saved)
            .await
            .expect("marked")
    );
    // What comes late changes nothing that was done since.
    save_now(&store, &left).await;
    let kept = store
        .voicemail(left.id)
        .await
        .expect("read")
        .expect("there");
    assert_eq!(kept.state, VoicemailState::Saved);
    assert_eq!(kept.transcript.as_deref(), Some("Call me back."));
    store
        .delete_voicemail(&place.folder, &kept)
        .await
        .expect("deleted");
    assert_eq!(store.voicemails(None).await.expect("read"), []);
}

#[test]
fn a_file_that_was_cut_off_anywhere_plays() {
    let folder = Folder::new();
    let draft = message(2);
    let path = folder.0.join(&draft.file);
    let mut file = MessageFile::create(&folder.0, &draft).expect("room");
    assert!(samples(&path).is_empty());
    for frame in 0..130i16 {
        file.append(&[frame; 160]).expect("room");
        let heard = samples(&path);
        let lost = usize::from(frame.unsigned_abs() + 1) * 160 - heard.len();
        assert!(lost <= 4000, "{lost} samples of the last second are lost");
    }
    drop(file);
    assert_eq!(file::repair(&path).expect("repaired"), 2600);
    assert_eq!(samples(&path).len(), 130 * 160);
}

#[test]
fn a_finished_file_is_cut_to_its_length_and_a_discarded_one_is_gone() {
    let folder = Folder::new();
    let draft = message(3);
    let path = folder.0.join(&draft.file);
    let mut file = MessageFile::create(&folder.0, &draft).expect("room");
    file.append(&[7; 16_000]).expect("room");
    assert_eq!(file.duration_ms(), 2000);
    file.finish(1500, &complete(draft, 1500)).expect("finished");
    assert_eq!(samples(&path), [7; 12_000]);
    let other = message(4);
    let file = MessageFile::create(&folder.0, &other).expect("room");
    file.discard();
    let left = fs::read_dir(path.parent().expect("a folder")).expect("read");
    assert_eq!(left.count(), 2, "the first one's sound and description");
}

async fn a_crash_at_any_moment_loses_no_message(place: Place) {
    let store = place.open().await;
    let speak = |message: &Voicemail| {
        let mut file = MessageFile::create(&place.folder, message).expect("room");
        file.append(&[9; 24_000]).expect("room");
        file
    };
    // In the middle of a message, with its row.
    let cut_off = message(10);
    save_now(&store, &cut_off).await;
    drop(speak(&cut_off));
    // The same before its row was written.
    let unknown = message(11);
    drop(speak(&unknown));
    // After its end, before its row says so.
    let ended = message(12);
    save_now(&store, &ended).await;
    let file = speak(&ended);
    file.finish(2000, &complete(ended.clone(), 2000))
        .expect("finished");
    // Before a word was said.
    let silent = message(13);
    save_now(&store, &silent).await;
    drop(MessageFile::create(&place.folder, &silent).expect("room"));
    // With its description torn, and no row.
    let torn = message(14);
    drop(speak(&torn));
    fs::write(
        file::description(&place.folder.join(&torn.file)),
        b"{\"id\":",
    )
    .expect("written");
    // A row whose file somebody removed.
    let removed = complete(message(15), 1000);
    save_now(&store, &removed).await;

    let found = store
        .recover_voicemails(&place.folder)
        .await
        .expect("recovered");
    let expected = RecoveredMailboxes {
        recovered: 4,
        dropped: 2,
    };
    assert_eq!(found, expected);
    let kept = |id| {
        let store = store.clone();
        async move { store.voicemail(id).await.expect("read") }
    };
    for cut in [&cut_off, &unknown] {
        let kept = kept(cut.id).await.expect("recovered");
        assert_eq!(kept.ended, Some(RecordingEnd::Crashed));
        assert_eq!((kept.duration_ms, kept.state), (3000, VoicemailState::New));
        assert_eq!(kept.customer, cut.customer);
        assert_eq!(samples(&place.folder.join(&kept.file)).len(), 24_000);
    }
    let ended = kept(ended.id).await.expect("recovered");
    assert_eq!(ended.ended, Some(RecordingEnd::HungUp));
    assert_eq!(ended.duration_ms, 2000);
    let torn = kept(torn.id).await.expect("recovered");
    assert_eq!((torn.customer, torn.duration_ms), (None, 3000));
    assert_eq!(kept(silent.id).await, None);
    assert_eq!(kept(removed.id).await, None);
    let again = store
        .recover_voicemails(&place.folder)
        .await
        .expect("recovered");
    assert_eq!(again, RecoveredMailboxes::default(), "once is enough");
}

async fn the_journal_keeps_messages_and_forgets_those_that_came_to_nothing(place: Place) {
    let store = place.open().await;
    let journal = Journal::start(store.clone(), None);
    let (one, two) = (message(20), message(21));
    journal.write(Entry::Voicemail(Box::new(one.clone())));
    journal.write(Entry::Voicemail(Box::new(two.clone())));
    journal.write(Entry::NoVoicemail(one.id));
    journal.write(Entry::Voicemail(Box::new(complete(two.clone(), 900))));
    journal.flush().await;
    let kept = store.voicemails(Some(&two.mailbox)).await.expect("read");
    assert_eq!(kept, [complete(two, 900)]);
    let old = OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("in range");
    let expired = store
        .expire_voicemails(&place.folder, &kept[0].mailbox, old)
        .await
        .expect("expired");
    assert_eq!(expired, 1);
}
