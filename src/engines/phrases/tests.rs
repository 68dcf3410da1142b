use std::sync::Mutex;

use super::*;

/// Speaks as many samples as the text has bytes, and remembers what it was asked.
#[derive(Default)]
struct Voice {
    asked: Mutex<Vec<String>>,
    /// Fails this many requests first.
    failures: Mutex<Vec<EngineError>>,
}

impl Voice {
    fn failing(errors: &[EngineError]) -> Self {
        Self {
            failures: Mutex::new(errors.to_vec()),
            ..Self::default()
        }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Speaker for Voice {
    async fn synthesise(&self, text: &str) -> Result<Sound, EngineError> {
        self.asked.lock().unwrap().push(text.to_owned());
        match self.failures.lock().unwrap().pop() {
            Some(error) => Err(error),
            None => Ok(Sound::wide(
                text.bytes().map(i16::from).collect::<Vec<i16>>(),
            )),
        }
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("offhook-phrases-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.0)
            .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn texts() -> Vec<String> {
    ["Hello, this is the demo.", "One moment, please."]
        .map(String::from)
        .into()
}

#[tokio::test]
async fn phrases_are_spoken_once_and_outlive_the_server_and_the_worker() {
    let folder = Folder::new("once");
    let voice = Voice::default();
    let book = PhraseBook::new(&folder.0, "joe");
    assert_eq!(book.get("One moment, please."), None);
    assert!(book.prepare(&voice, &texts()).await.is_empty());
    assert!(book.prepare(&voice, &texts()).await.is_empty());
    assert_eq!(voice.asked(), texts());
    let spoken = book.get("One moment, please.").unwrap();

    let next_start = PhraseBook::new(&folder.0, "joe");
    assert!(next_start.load(&texts()).await.is_empty());
    assert_eq!(next_start.get("One moment, please."), Some(spoken));
    assert!(
        folder
            .files()
            .iter()
            .all(|file| file.extension().unwrap() == "wav")
    );
}

#[tokio::test]
async fn another_voice_makes_its_own_recordings() {
    let folder = Folder::new("voices");
    let voice = Voice::default();
    PhraseBook::new(&folder.0, "joe")
        .prepare(&voice, &texts())
        .await;
    let other = PhraseBook::new(&folder.0, "amy");
    assert_eq!(other.load(&texts()).await, texts());
    other.prepare(&voice, &texts()).await;
    assert_eq!(voice.asked().len(), 4);
    assert_eq!(folder.files().len(), 4);
}

#[tokio::test]
async fn damaged_files_are_spoken_anew() {
    let damages: [fn(&Path); 5] = [
        |file| std::fs::write(file, b"").unwrap(),
        |file| std::fs::write(file, b"RIFF, but not really").unwrap(),
        |file| {
            let whole = std::fs::read(file).unwrap();
            std::fs::write(file, &whole[..whole.len() - 5]).unwrap();
        },
        |file| {
            let rate = SampleRate::TELEPHONE;
            wav::write(std::fs::File::create(file).unwrap(), &[1, 2], rate).unwrap();
        },
        |file| {
            std::fs::remove_file(file).unwrap();
            std::fs::create_dir(file).unwrap();
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let folder = Folder::new(&format!("damaged-{number}"));
        let voice = Voice::default();
        PhraseBook::new(&folder.0, "joe")
            .prepare(&voice, &texts())
            .await;
        voice.asked();
        folder.files().iter().for_each(|file| damage(file));
        let book = PhraseBook::new(&folder.0, "joe");
        assert!(book.prepare(&voice, &texts()).await.is_empty());
        assert_eq!(voice.asked(), texts(), "damage {number}");
        assert!(texts().iter().all(|text| book.get(text).is_some()));
    }
}

#[tokio::test]
async fn a_disk_that_takes_nothing_costs_only_the_copy() {
    let folder = Folder::new("full");
    // A file where the folder should be: nothing can be written below it, not even by root.
    std::fs::write(&folder.0, b"").unwrap();
    let book = PhraseBook::new(folder.0.join("phrases"), "joe");
    assert!(book.prepare(&Voice::default(), &texts()).await.is_empty());
    assert!(texts().iter().all(|text| book.get(text).is_some()));
    std::fs::remove_file(&folder.0).unwrap();
}

#[tokio::test]
async fn a_full_disk_leaves_no_half_written_file() {
    // Linux's device that is always full.
    let folder = Folder::new("device");
    std::fs::create_dir_all(&folder.0).unwrap();
    let book = PhraseBook::new(&folder.0, "joe");
    let part = book.path("Hello, this is the demo.").with_extension("part");
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    assert!(
        book.prepare(&Voice::default(), &texts()[..1])
            .await
            .is_empty()
    );
    assert!(book.get("Hello, this is the demo.").is_some());
    assert!(folder.files().is_empty());
}

#[tokio::test]
async fn a_worker_that_died_is_asked_once_more_and_a_missing_model_is_not() {
    let folder = Folder::new("errors");
    let book = PhraseBook::new(&folder.0, "joe");
    let died = || EngineError::WorkerDied {
        engine: "tts".into(),
    };
    let missing = || EngineError::ModelMissing {
        detail: String::new(),
    };

    let voice = Voice::failing(&[died()]);
    assert!(book.prepare(&voice, &texts()[..1]).await.is_empty());
    assert_eq!(voice.asked().len(), 2);

    let voice = Voice::failing(&[missing()]);
    let failed = book.prepare(&voice, &texts()).await;
    assert_eq!(failed, [("One moment, please.".to_owned(), missing())]);
    assert_eq!(voice.asked().len(), 1);

    assert!(book.prepare(&Voice::default(), &texts()).await.is_empty());
}

#[tokio::test]
async fn what_a_voice_has_not_said_yet_the_servers_own_voice_says() {
    let folder = Folder::new("stand-in");
    let (own, hosted) = (Voice::default(), Voice::default());
    let book = PhraseBook::new(&folder.0, "joe");
    book.prepare(&own, &texts()).await;
    let other = book.in_voice("a hosted voice");
    let phrase = &texts()[0];
    assert_eq!(other.get(phrase), book.get(phrase), "not said yet");
    let failing = Voice::failing(&[EngineError::Overloaded]);
    assert_eq!(other.prepare(&failing, &texts()[..1]).await.len(), 1);
    assert_eq!(other.get(phrase), book.get(phrase), "and not said now");
    other.prepare(&hosted, &texts()).await;
    assert_eq!(hosted.asked(), texts());
    let again = book.in_voice("a hosted voice");
    assert!(again.get(phrase).is_some());
    assert_eq!(folder.files().len(), 4, "each voice has its files");
}
