use super::*;

fn says(written: &str, spoken: &str) {
    assert_eq!(speakable(written, "en"), spoken, "{written}");
}

#[test]
fn numbers_are_said_as_words() {
    says("It is 3.5 miles.", "It is three point five miles.");
    says(
        "We have 1,234 of them, and 7 more.",
        "We have one thousand two hundred thirty four of them, and seven more.",
    );
    says(
        "On the 23rd, in 1999 or 2026.",
        "On the twenty third, in nineteen ninety nine or twenty twenty six.",
    );
    says("About 50% of 1/2.", "About fifty percent of one half.");
    says(
        "It is -5 or 72\u{b0}F outside.",
        "It is minus five or seventy two degrees Fahrenheit outside.",
    );
}

#[test]
fn money_is_said_with_its_unit_last() {
    says(
        "That is $4.99.",
        "That is four dollars and ninety nine cents.",
    );
    says("Only $1!", "Only one dollar!");
    says("$0.50 or \u{20ac}20", "fifty cents or twenty euros");
    says("about $5 million,", "about five million dollars,");
    says("a $5k budget", "a five thousand dollars budget");
}

#[test]
fn times_are_said_as_people_say_them() {
    says(
        "At 10:30 a.m. or 9 p.m. on Monday.",
        "At ten thirty A M or nine P M on Monday.",
    );
    says("We close at 5 p.m.", "We close at five P M.");
    says(
        "From 9:00 to 17:05.",
        "From nine o'clock to seventeen oh five.",
    );
    says(
        "Open 9-5, 8:30am\u{2013}6pm, 24/7",
        "Open nine to five, eight thirty A M to six P M, twenty four seven",
    );
    says("at 7:00 PM, please", "at seven P M, please");
}

#[test]
fn telephone_numbers_and_codes_are_said_digit_by_digit() {
    says(
        "Call 555-123-4067.",
        "Call five five five, one two three, four oh six seven.",
    );
    says(
        "Call (555) 123-4567, please.",
        "Call five five five, one two three, four five six seven, please.",
    );
    says(
        "Call +1-555-123-4567",
        "Call plus one, five five five, one two three, four five six seven",
    );
    says(
        "Order 12345 and room 101.",
        "Order one two three four five and room one zero one.",
    );
    says("Press 0 or dial 911", "Press zero or dial nine one one");
}

#[test]
fn dates_are_said_with_the_month() {
    says("on 2026-05-06.", "on May sixth, twenty twenty six.");
    says(
        "on 12/25/2025",
        "on December twenty fifth, twenty twenty five",
    );
}

#[test]
fn abbreviations_are_said_in_full() {
    says(
        "Dr. Smith on Main St. near St. Mary",
        "Doctor Smith on Main Street near Saint Mary",
    );
    says(
        "Use No. 5, e.g. with milk, etc.",
        "Use number five, for example with milk, et cetera.",
    );
    says("Salt & pepper vs. sugar", "Salt and pepper versus sugar");
}

#[test]
fn addresses_are_spelled() {
    says(
        "Write to info@acme.co.uk.",
        "Write to info at acme dot co dot uk.",
    );
    says(
        "See https://www.acme-inc.com/help now",
        "See W W W dot acme dash inc dot com slash help now",
    );
}

#[test]
fn ordinary_words_and_other_languages_pass() {
    says(
        "Well, (as I said) it's fine: go on!",
        "Well, (as I said) it's fine: go on!",
    );
    says("Plan B2 and A12.", "Plan B2 and A12.");
    assert_eq!(
        speakable("Um 10:30 für 4,99 €.", "de"),
        "Um 10:30 für 4,99 €."
    );
}

#[test]
fn no_text_makes_it_panic_or_fall_silent() {
    for text in [
        "(",
        "()",
        "€",
        "$",
        "#",
        "%",
        "-",
        "+",
        "::",
        "1:",
        "(5",
        "5)",
        "1//2",
        "@.",
        "a@b",
        "\u{b0}",
        "99999999999999999999999",
        "日本 5km",
    ] {
        let spoken = speakable(text, "en");
        assert!(!spoken.is_empty(), "{text}");
    }
}
