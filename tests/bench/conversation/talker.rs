//! An assistant that has much to say and may be interrupted in it: what is spoken over.

use toml::{Table, Value};

use super::set;

/// Most of a minute; its sound is the same in every call.
pub(super) const SPEECH: &str = "\
Thank you for calling the Larkfield Garden Hotel. Before we begin, let me tell you what is new this \
season. The garden behind the house has been planted again, with old roses along the eastern wall and \
a pond for the ducks. The pool was cleaned in April and is heated until the end of October. In the \
restaurant our chef serves a menu of five courses on Friday evenings, and he asks all guests to reserve \
a table two days before. The bus from the airport now stops at our front door every twenty minutes. \
Those who come by car find the entrance to the garage in Orchard Lane, just after the bakery on the \
left. Bicycles are kept in the shed beside the kitchen, and the keys are at the reception. On Sundays \
a guide walks with our guests through the old town, past the market and the mill, and along the river \
back to the hotel. Please tell us when you would like to come, and for how many nights.";

/// The base, beginning with that.
pub(super) fn talker(base: &Table) -> Table {
    let mut talker = base.clone();
    for (path, value) in [
        ("firstMessage", SPEECH.into()),
        ("firstMessageMode", "assistant-speaks-first".into()),
        ("firstMessageInterruptionsEnabled", true.into()),
        ("messagePlan.idleMessages", Value::Array(Vec::new())),
        ("endCallPhrases", Value::Array(Vec::new())),
        ("silenceTimeoutSeconds", 600.into()),
        ("maxDurationSeconds", 3600.into()),
    ] {
        set(&mut talker, path, value);
    }
    talker
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook::engines::tts::MAX_TEXT_CHARS;

    #[test]
    fn the_voice_says_it_in_one_piece() {
        assert!(SPEECH.chars().count() <= MAX_TEXT_CHARS);
        let talker = talker(&Table::new());
        let message = talker.get("firstMessage").and_then(Value::as_str);
        assert_eq!(message, Some(SPEECH));
    }
}
