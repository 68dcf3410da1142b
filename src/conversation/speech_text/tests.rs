use super::*;

fn in_pieces(text: &str, size: usize) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let mut cutter = ClauseCutter::new();
    let mut clauses = Vec::new();
    for piece in letters.chunks(size) {
        clauses.extend(cutter.push(&piece.iter().collect::<String>()));
    }
    clauses.extend(cutter.finish());
    clauses
}

/// However the text arrives, the clauses are the same.
fn clauses(text: &str) -> Vec<String> {
    let whole = in_pieces(text, text.len().max(1));
    for size in [1, 2, 3, 5, 8, 13] {
        assert_eq!(in_pieces(text, size), whole, "in pieces of {size}");
    }
    whole
}

#[test]
fn sentences_are_cut_apart() {
    assert_eq!(
        clauses("Sure! We open at nine. Is that all right? Good."),
        ["Sure!", "We open at nine.", "Is that all right?", "Good."]
    );
}

#[test]
fn numbers_times_and_abbreviations_stay_whole() {
    for sentence in [
        "It is 3.5 miles and costs $4.99 today.",
        "Ask for Dr. Smith at 10:30 a.m. on Main St. near No. 5.",
        "J. K. Rowling wrote it, e.g. on page 1,024.",
        "Write to info@acme.co.uk or see www.acme.com/help.html now.",
        "Come at 9 a.m. Monday for the U.S. office.",
        "Version 2.0.1 is out vs. 1.9 before.",
    ] {
        let mut cutter = ClauseCutter::new();
        cutter.first = false;
        let mut cut: Vec<String> = sentence
            .chars()
            .flat_map(|c| cutter.push(&c.to_string()))
            .collect();
        cut.extend(cutter.finish());
        assert_eq!(cut, [sentence]);
    }
}

#[test]
fn a_sentence_may_end_with_an_abbreviation() {
    assert_eq!(
        clauses("We close at 5 p.m. Please come before. No. I cannot. So do I. Fine."),
        [
            "We close at 5 p.m.",
            "Please come before.",
            "No.",
            "I cannot.",
            "So do I.",
            "Fine."
        ]
    );
}

#[test]
fn the_first_clause_is_cut_at_a_comma_the_later_ones_only_when_long() {
    assert_eq!(
        clauses("Yes, of course, I can help. First, tell me your name, please, and city."),
        [
            "Yes, of course,",
            "I can help.",
            "First, tell me your name, please, and city."
        ]
    );
}

#[test]
fn the_first_clause_does_not_wait_for_a_long_sentence() {
    let clauses = clauses(
        "Our shop on the corner of the old market square opens every morning at nine and closes at six.",
    );
    assert!(
        clauses[0].chars().count() <= MOST_FIRST_CLAUSE,
        "{clauses:?}"
    );
    assert!(clauses[1].ends_with("closes at six."), "{clauses:?}");
}

#[test]
fn no_clause_grows_without_bound_and_no_letter_is_split() {
    let text = "日本語の長い文".repeat(200);
    let cut = clauses(&text);
    assert!(
        cut.iter()
            .all(|clause| clause.chars().count() <= MOST_CLAUSE)
    );
    assert_eq!(cut.concat(), text);
    let spaced = clauses("Nun\u{a0}ja.\u{a0}Dr.\u{3000}M.");
    assert!(!spaced.is_empty());
    let words = "word ".repeat(300);
    let cut = clauses(&words);
    assert!(
        cut.iter()
            .all(|clause| clause.chars().count() <= MOST_CLAUSE)
    );
    assert_eq!(cut.join(" "), words.trim());
}

#[test]
fn lists_and_headings_become_clauses_without_marks() {
    assert_eq!(
        clauses(
            "Here you go:\n\n## Days\n1. **Monday**\n2. Tuesday\n- Friday 🎉\n---\n```\nlet x;\n```\nDone."
        ),
        [
            "Here you go:",
            "Days",
            "Monday",
            "Tuesday",
            "Friday",
            "Done."
        ]
    );
}

#[test]
fn quotes_and_dots_belong_to_their_sentence() {
    assert_eq!(
        clauses("She said \"Stop.\" Then... well, he left (fast!). Done"),
        [
            "She said \"Stop.\"",
            "Then...",
            "well, he left (fast!).",
            "Done"
        ]
    );
}

#[test]
fn a_reply_without_words_has_no_clauses() {
    for text in ["", "  \n\n ", "...", "🎉🎉", "**", "```"] {
        assert_eq!(clauses(text), Vec::<String>::new(), "{text:?}");
    }
}

#[test]
fn a_clause_is_handed_out_as_soon_as_the_next_word_starts() {
    let mut cutter = ClauseCutter::new();
    assert_eq!(cutter.push("We open"), Vec::<String>::new());
    assert_eq!(cutter.push(" at nine."), Vec::<String>::new());
    assert_eq!(cutter.push(" "), ["We open at nine."]);
}
