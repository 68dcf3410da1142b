//! What mailboxes say. Everything is made of these, spoken ahead and kept, so that a mailbox
//! speaks without an engine.

use super::deposit::{Announcement, Refused};
use crate::record::MailboxCounts;

/// A fixed piece of speech.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Which mailbox?
    AskMailbox,
    /// Which PIN?
    AskPin,
    /// Mailbox and PIN do not belong together.
    WrongPin,
    /// Too many wrong ones.
    Closed,
    /// The end.
    Goodbye,
    /// Begins a count.
    YouHave,
    /// There are none.
    NoMessages,
    /// 0 to 20, 30, 40, 50.
    Number(u8),
    /// More than can be said.
    MoreThanFifty,
    /// After 1.
    NewMessage,
    /// After another number.
    NewMessages,
    /// Between two counts.
    And,
    /// After 1.
    SavedMessage,
    /// After another number.
    SavedMessages,
    /// Before a message that nobody has heard.
    HeadNew,
    /// Before one that was heard.
    HeadSaved,
    /// Before the digits of a number.
    From,
    /// Instead of them.
    FromUnknown,
    /// Received today.
    Today,
    /// Received yesterday.
    Yesterday,
    /// Received on a day of the last week, Monday is 0.
    On(u8),
    /// Received before that.
    Earlier,
    /// Before a time of day.
    At,
    /// What keys do after a message.
    Choices,
    /// Done.
    Saved,
    /// Done.
    Deleted,
    /// There are no more.
    NoMore,
    /// The database or the file fails.
    Unavailable,
    /// A message cannot be played.
    Unplayable,
    /// The caller said nothing.
    Again,
    /// The message is kept.
    Thanks,
    /// There is no message.
    Nothing,
    /// No more messages fit.
    Full,
    /// Messages cannot be kept now.
    CannotTake,
    /// Only a part could be kept.
    CutOff,
}

const NUMBERS: [&str; 24] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
];
const WEEKDAYS: [&str; 7] = [
    "received on Monday",
    "received on Tuesday",
    "received on Wednesday",
    "received on Thursday",
    "received on Friday",
    "received on Saturday",
    "received on Sunday",
];

impl Prompt {
    /// The words.
    pub fn text(self) -> &'static str {
        match self {
            Self::AskMailbox => {
                "Welcome to your mailbox. Please enter its number, followed by the hash key."
            }
            Self::AskPin => "Please enter your PIN, followed by the hash key.",
            Self::WrongPin => "That was not right.",
            Self::Closed => "There were too many attempts. Please call again later. Goodbye.",
            Self::Goodbye => "Goodbye.",
            Self::YouHave => "You have",
            Self::NoMessages => "You have no messages.",
            Self::Number(n @ 0..=20) => NUMBERS[usize::from(n)],
            Self::Number(30) => NUMBERS[21],
            Self::Number(40) => NUMBERS[22],
            Self::Number(_) => NUMBERS[23],
            Self::MoreThanFifty => "more than fifty",
            Self::NewMessage => "new message.",
            Self::NewMessages => "new messages.",
            Self::And => "and",
            Self::SavedMessage => "saved message.",
            Self::SavedMessages => "saved messages.",
            Self::HeadNew => "New message,",
            Self::HeadSaved => "Saved message,",
            Self::From => "from",
            Self::FromUnknown => "from an unknown number",
            Self::Today => "received today",
            Self::Yesterday => "received yesterday",
            Self::On(day) => WEEKDAYS[usize::from(day) % WEEKDAYS.len()],
            Self::Earlier => "received more than a week ago",
            Self::At => "at",
            Self::Choices => {
                "To hear it again, press one. To save it, press two. To delete it, press three. \
                 For the next message, press the hash key."
            }
            Self::Saved => "Message saved.",
            Self::Deleted => "Message deleted.",
            Self::NoMore => "There are no more messages.",
            Self::Unavailable => {
                "I'm sorry, your messages cannot be read at the moment. Please call again later."
            }
            Self::Unplayable => "I'm sorry, this message cannot be played.",
            Self::Again => "Nothing was recorded. Please speak after the tone.",
            Self::Thanks => "Thank you. Your message has been recorded. Goodbye.",
            Self::Nothing => "Nothing was recorded. Goodbye.",
            Self::Full => "I'm sorry, this mailbox is full. Please call again later. Goodbye.",
            Self::CannotTake => {
                "I'm sorry, messages cannot be recorded at the moment. Please call again later. \
                 Goodbye."
            }
            Self::CutOff => {
                "I'm sorry, your message could only be recorded in part. Please call again \
                 later. Goodbye."
            }
        }
    }
}

/// What a caller hears; `None` for what is no fixed speech.
impl Announcement {
    /// The fixed speech of it.
    pub fn prompt(self) -> Option<Prompt> {
        match self {
            Self::Greeting | Self::Beep => None,
            Self::Again => Some(Prompt::Again),
            Self::Thanks => Some(Prompt::Thanks),
            Self::Nothing => Some(Prompt::Nothing),
            Self::Refused(Refused::Full) => Some(Prompt::Full),
            Self::Refused(Refused::Disk) => Some(Prompt::CannotTake),
            Self::CutOff => Some(Prompt::CutOff),
        }
    }
}

/// What callers may hear beside the greetings: needed before the first call.
const FOR_CALLERS: [Prompt; 6] = [
    Prompt::Again,
    Prompt::Thanks,
    Prompt::Nothing,
    Prompt::Full,
    Prompt::CannotTake,
    Prompt::CutOff,
];

const FOR_OWNERS: [Prompt; 27] = [
    Prompt::AskMailbox,
    Prompt::AskPin,
    Prompt::WrongPin,
    Prompt::Closed,
    Prompt::Goodbye,
    Prompt::YouHave,
    Prompt::NoMessages,
    Prompt::MoreThanFifty,
    Prompt::NewMessage,
    Prompt::NewMessages,
    Prompt::And,
    Prompt::SavedMessage,
    Prompt::SavedMessages,
    Prompt::HeadNew,
    Prompt::HeadSaved,
    Prompt::From,
    Prompt::FromUnknown,
    Prompt::Today,
    Prompt::Yesterday,
    Prompt::Earlier,
    Prompt::At,
    Prompt::Choices,
    Prompt::Saved,
    Prompt::Deleted,
    Prompt::NoMore,
    Prompt::Unavailable,
    Prompt::Unplayable,
];

/// All fixed speech: what callers need first, then what owners need.
pub fn prompts() -> (Vec<&'static str>, Vec<&'static str>) {
    let callers = FOR_CALLERS.iter().map(|prompt| prompt.text());
    let owners = FOR_OWNERS.iter().map(|prompt| prompt.text());
    let owners = owners.chain(NUMBERS).chain(WEEKDAYS);
    (callers.collect(), owners.collect())
}

/// A number from 0 to 59, and more than that.
pub fn spoken_number(number: u32) -> Vec<Prompt> {
    let Some(number) = u8::try_from(number).ok().filter(|number| *number < 60) else {
        return vec![Prompt::MoreThanFifty];
    };
    match (number / 10 * 10, number % 10) {
        (0 | 10, _) | (_, 0) => vec![Prompt::Number(number)],
        (tens, ones) => vec![Prompt::Number(tens), Prompt::Number(ones)],
    }
}

/// "You have two new messages and one saved message."
pub fn count_prompts(counts: MailboxCounts) -> Vec<Prompt> {
    let part = |count: u32, one: Prompt, more: Prompt| {
        let mut words = spoken_number(count);
        words.push(if count == 1 { one } else { more });
        words
    };
    let new = part(counts.new, Prompt::NewMessage, Prompt::NewMessages);
    let saved = part(counts.saved, Prompt::SavedMessage, Prompt::SavedMessages);
    let mut words = vec![Prompt::YouHave];
    match (counts.new, counts.saved) {
        (0, 0) => return vec![Prompt::NoMessages],
        (_, 0) => words.extend(new),
        (0, _) => words.extend(saved),
        (_, _) => {
            words.extend(new);
            words.push(Prompt::And);
            words.extend(saved);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &[Prompt]) -> String {
        let words: Vec<&str> = words.iter().map(|word| word.text()).collect();
        words.join(" ")
    }

    #[test]
    fn counts_are_said_as_people_do() {
        let count = |new, saved| said(&count_prompts(MailboxCounts { new, saved }));
        assert_eq!(count(0, 0), "You have no messages.");
        assert_eq!(count(1, 0), "You have one new message.");
        assert_eq!(count(0, 47), "You have forty seven saved messages.");
        assert_eq!(
            count(12, 1),
            "You have twelve new messages. and one saved message."
        );
        assert_eq!(count(600, 0), "You have more than fifty new messages.");
    }

    #[test]
    fn everything_that_can_be_said_is_spoken_ahead() {
        let (callers, owners) = prompts();
        let known: Vec<&str> = callers.into_iter().chain(owners).collect();
        for number in 0..70 {
            for prompt in spoken_number(number) {
                assert!(known.contains(&prompt.text()), "{prompt:?}");
            }
        }
        for day in 0..7 {
            assert!(known.contains(&Prompt::On(day).text()));
        }
        let mut once = known.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), known.len(), "nothing is spoken twice");
    }
}
