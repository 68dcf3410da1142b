//! What callers say with a pause inside: numbers and sentences, made from recordings and from
//! synthetic voices, the same for the same seed.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use offhook::audio::{SampleRate, resample, wav};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::Result;
use crate::cutting::{self, pause};
use crate::options::Options;
use crate::speech::{self, Kind, Line};
use crate::voices::{Speaker, Voices};
use crate::words;

/// So often at most a recorded sentence is cut: few say little, and where they are cut is chance.
const TIMES_RECORDED: usize = 2;
/// The longest pause inside, in ms.
const LONGEST_PAUSE: u64 = 900;
/// The shortest that tries a policy.
const SHORTEST_PAUSE: u64 = 300;

/// Sentences with the place of the pause. The words of the first half cannot stand for themselves.
const BROKEN_OFF: [&str; 20] = [
    "I would like to book a room for | the second of March.",
    "Could you tell me whether | the pool is open today?",
    "My name is | Margaret Holloway.",
    "I'm calling because | I left my umbrella in the restaurant.",
    "We will arrive at | about half past nine in the evening.",
    "How much is a room with | a view of the garden?",
    "I wanted to ask if | breakfast is included in the price.",
    "Please tell the manager that | the wireless network does not work.",
    "There will be three of us, my wife, my son and | my mother.",
    "Can I speak to | somebody in charge of the restaurant?",
    "I need a taxi to the | main train station, please.",
    "It is about the booking that | I made last week.",
    "The last time we stayed in | the room above the kitchen.",
    "Do you have a table for | six people on Saturday night?",
    "I am looking for the | number of the airport bus.",
    "Is it possible to | check out a little later on Sunday?",
    "Well, um, | how much do you charge for parking?",
    "I think we will need two rooms, or | maybe a suite.",
    "The room should be on the | ground floor, because of my knee.",
    "What I really want to know is | whether dogs are welcome.",
];

/// The same where the first half could be all: only how it is said tells.
const COULD_BE_ALL: [&str; 20] = [
    "I need a room, | for two nights.",
    "Do you have parking, | for a small van?",
    "We are coming on Friday, | late in the evening.",
    "I would like a double room, | with a view of the garden.",
    "Can I bring my dog, | and is there a park nearby?",
    "I have lost my key, | or I left it in the room.",
    "I want to cancel my booking, | the one for next weekend.",
    "Is the restaurant open, | on Mondays?",
    "We need two towels, | and another pillow.",
    "My flight is delayed, | so I will be late.",
    "I would like to pay now, | by credit card.",
    "There is no hot water, | in room twenty four.",
    "Can you wake me up, | at six in the morning?",
    "I am at the station, | on the north side.",
    "We would like dinner, | for the four of us.",
    "Could you call a taxi, | for eight o'clock?",
    "The light is broken, | the one beside the bed.",
    "I stayed with you in May, | with my husband.",
    "Can we see the room, | before we decide?",
    "I would like a table, | near the window.",
];

/// Something with a pause inside.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) kind: &'static str,
    /// What is said, for people.
    pub(super) text: String,
    /// The longest pause inside, in ms.
    pub(super) pause_ms: u64,
    /// 8 kHz.
    pub(super) sound: Vec<i16>,
}

/// The kinds of [`digits`].
pub(super) const DIGITS: [&str; 3] = ["digits as recorded", "digits, recorded", "digits, made"];
/// The kinds of [`sentences`].
pub(super) const SENTENCES: [&str; 3] = [
    "sentence, recorded",
    "sentence broken off, made",
    "sentence that could be all, made",
];

/// Reads a recording at 8 kHz.
pub(super) fn read(file: &Path) -> Result<Vec<i16>> {
    let opened = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let clip = wav::read(opened).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(resample::whole(
        &clip.samples,
        clip.rate,
        SampleRate::TELEPHONE,
    ))
}

/// So many numbers: recorded strings as they are first, then digits put together anew, half of them
/// recorded ones.
pub(super) fn digits(
    options: &Options,
    voices: &mut Voices,
    seed: u64,
    count: usize,
) -> Result<Vec<Case>> {
    let mut random = StdRng::seed_from_u64(seed);
    let lines = speech::digits(options)?;
    let mut cases = as_recorded(&lines, count)?;
    let speakers = recorded_digits(&lines)?;
    for number in cases.len()..count {
        let groups = groups(&mut random);
        let text: Vec<String> = groups.iter().map(|group| words::spell_out(group)).collect();
        let recorded = match number % 2 {
            0 => strung(&mut random, &speakers, &groups),
            _ => None,
        };
        let (kind, (sound, pause_ms)) = match recorded {
            Some(strung) => (DIGITS[1], strung),
            None => {
                let speaker = &voices.speakers()[number / 2 % voices.speakers().len()].clone();
                let mut pieces = Vec::new();
                for (place, words) in text.iter().enumerate() {
                    let end = if place + 1 == text.len() { "." } else { "," };
                    pieces.push(voices.say(speaker, &format!("{words}{end}"))?);
                }
                (DIGITS[2], with_pauses(&mut random, pieces))
            }
        };
        cases.push(Case {
            kind,
            text: text.join(" | "),
            pause_ms,
            sound,
        });
    }
    Ok(cases)
}

fn as_recorded(lines: &[Line], most: usize) -> Result<Vec<Case>> {
    let case = |line: &Line| -> Result<Case> {
        let sound = read(line.recording()?)?;
        Ok(Case {
            kind: DIGITS[0],
            text: line.text.clone().unwrap_or_default(),
            pause_ms: cutting::longest_pause(&sound),
            sound,
        })
    };
    lines.iter().take(most).map(case).collect()
}

/// Digits in groups of two to four, four to ten in all.
fn groups(random: &mut StdRng) -> Vec<String> {
    let mut left = random.random_range(4..=10);
    let mut groups = Vec::new();
    while left > 0 {
        let size = match left {
            0..=3 => left,
            // Never a single one at the end.
            4 => 2,
            5 => random.random_range(2..=3),
            _ => random.random_range(2..=4),
        };
        let digit = |_| char::from(b'0' + random.random_range(0..10_u8));
        groups.push((0..size).map(digit).collect());
        left -= size;
    }
    groups
}

/// Pieces with pauses between them, and the longest of those in ms.
fn with_pauses(random: &mut StdRng, pieces: Vec<Vec<i16>>) -> (Vec<i16>, u64) {
    let (mut sound, mut longest) = (Vec::new(), 0);
    for (place, piece) in pieces.into_iter().enumerate() {
        if place > 0 {
            let ms = random.random_range(SHORTEST_PAUSE..=LONGEST_PAUSE);
            longest = longest.max(ms);
            sound.extend(pause(ms));
        }
        sound.extend(piece);
    }
    (sound, longest)
}

/// Recordings of each digit.
type Digits = BTreeMap<char, Vec<Vec<i16>>>;

/// What recorded speakers said of each digit, by speaker. The digits of a speaker whose name is not
/// known are one recording's only.
fn recorded_digits(lines: &[Line]) -> Result<Vec<Digits>> {
    let mut speakers: BTreeMap<String, Digits> = BTreeMap::new();
    for line in lines {
        let digits: Vec<char> = line
            .text
            .iter()
            .flat_map(|text| text.chars())
            .filter(char::is_ascii_digit)
            .collect();
        let Some(pieces) = cutting::digits(&read(line.recording()?)?, digits.len()) else {
            continue;
        };
        let speaker = line.speaker.clone().unwrap_or_else(|| line.name.clone());
        let of_speaker = speakers.entry(speaker).or_default();
        for (digit, piece) in digits.into_iter().zip(pieces) {
            of_speaker.entry(digit).or_default().push(piece);
        }
    }
    Ok(speakers.into_values().collect())
}

/// Groups of digits in one recorded person's voice who said all of them; `None` where nobody did.
fn strung(random: &mut StdRng, speakers: &[Digits], groups: &[String]) -> Option<(Vec<i16>, u64)> {
    let able: Vec<&Digits> = speakers
        .iter()
        .filter(|digits| {
            groups
                .concat()
                .chars()
                .all(|digit| digits.contains_key(&digit))
        })
        .collect();
    let speaker = able.choose(random)?;
    let mut pieces = Vec::new();
    for group in groups {
        let mut piece = Vec::new();
        for digit in group.chars() {
            if !piece.is_empty() {
                piece.extend(pause(random.random_range(80..=220)));
            }
            piece.extend(speaker.get(&digit)?.choose(random)?);
        }
        pieces.push(piece);
    }
    Some(with_pauses(random, pieces))
}

/// So many sentences: up to a quarter recordings with a pause put in where they are quietest, the
/// rest made, half of them such that their first half could be all.
pub(super) fn sentences(
    recorded: &[Line],
    voices: &mut Voices,
    seed: u64,
    count: usize,
) -> Result<Vec<Case>> {
    let mut random = StdRng::seed_from_u64(seed ^ 0x5e17);
    let mut halved = Vec::new();
    for line in recorded {
        if line.kind == Kind::Sentence
            && let Some(halves) = cutting::halves(&read(line.recording()?)?)
        {
            halved.push((line.name.clone(), halves));
        }
    }
    let mut cases = Vec::new();
    for number in 0..count {
        let (kind, text, pieces) = match number % 4 {
            0 if number / 4 < halved.len() * TIMES_RECORDED => {
                let (name, (first, second)) = &halved[number / 4 % halved.len()];
                (
                    SENTENCES[0],
                    name.clone(),
                    vec![first.clone(), second.clone()],
                )
            }
            place => {
                let (kind, texts) = match place % 2 {
                    1 => (SENTENCES[1], &BROKEN_OFF),
                    _ => (SENTENCES[2], &COULD_BE_ALL),
                };
                let text = texts[number / 2 % texts.len()];
                // Another speaker each time the same sentence comes.
                let speaker = number / 2 / texts.len() + number / 2;
                let speaker = voices.speakers()[speaker % voices.speakers().len()].clone();
                (kind, text.to_owned(), halves(voices, &speaker, text)?)
            }
        };
        let (sound, pause_ms) = with_pauses(&mut random, pieces);
        cases.push(Case {
            kind,
            text,
            pause_ms,
            sound,
        });
    }
    Ok(cases)
}

/// A sentence in its two halves, said in one breath: people who pause inside a sentence do not say
/// its first half as if it were all.
fn halves(voices: &mut Voices, speaker: &Speaker, text: &str) -> Result<Vec<Vec<i16>>> {
    let (first, second) = text.split_once(" | ").ok_or("a sentence without a pause")?;
    let first = first.trim_end_matches(',');
    let whole = voices.say(speaker, &format!("{first}, {second}"))?;
    let share = first.len() as f64 / text.len() as f64;
    let (first, second) = match cutting::at_pause(&whole, share) {
        Some(halves) => halves,
        // A voice that makes no pause at a comma.
        None => (
            voices.say(speaker, &format!("{first},"))?,
            voices.say(speaker, second)?,
        ),
    };
    Ok(vec![first, second])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_pauses_inside_and_no_single_digit_at_their_end() {
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..500 {
            let groups = groups(&mut random);
            let digits = groups.concat().len();
            assert!((4..=10).contains(&digits), "{groups:?}");
            assert!(groups.len() >= 2, "{groups:?}");
            assert!(groups.iter().all(|group| group.len() >= 2), "{groups:?}");
        }
    }

    #[test]
    fn digits_are_strung_in_one_voice_that_has_all_of_them() {
        let mut random = StdRng::seed_from_u64(1);
        let voice = |digits: &str, value: i16| -> Digits {
            digits
                .chars()
                .map(|digit| (digit, vec![vec![value; 800]]))
                .collect()
        };
        let speakers = [voice("12", 5), voice("123", 7)];
        let groups = ["12".to_owned(), "31".to_owned()];
        let (sound, pause_ms) = strung(&mut random, &speakers, &groups).expect("the second");
        assert!((SHORTEST_PAUSE..=LONGEST_PAUSE).contains(&pause_ms));
        assert_eq!(sound.iter().filter(|sample| **sample == 7).count(), 3200);
        assert!(strung(&mut random, &speakers, &["49".to_owned()]).is_none());
    }
}
