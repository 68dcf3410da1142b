//! Takes out of a reply what cannot be said: markdown, list marks, emoji, tags.

/// The words of a clause. `at_line_start` is true where the clause opens a line, so that a dash
/// or a number there is a list's mark.
pub(super) fn plain(clause: &str, at_line_start: bool) -> String {
    let clause = if at_line_start {
        without_line_mark(clause.trim_start())
    } else {
        clause
    };
    let mut text = String::with_capacity(clause.len());
    let mut rest = clause;
    while let Some(letter) = rest.chars().next() {
        let after = &rest[letter.len_utf8()..];
        if (letter == '[' || letter == '<')
            && let Some((kept, behind)) = link(rest).or_else(|| tag(rest))
        {
            text.push_str(kept);
            rest = behind;
            continue;
        }
        match letter {
            '*' | '`' | '~' | '|' | '\u{2022}' => {
                // Emphasis hugs a word; anything else parts two.
                if text.ends_with(char::is_whitespace) || after.starts_with(char::is_whitespace) {
                    text.push(' ');
                }
            }
            '_' if !joins_words(&text, after) => {}
            letter if is_pictograph(letter) => text.push(' '),
            letter if letter.is_control() => text.push(' '),
            letter => text.push(letter),
        }
        rest = after;
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    // An emoji taken from before a full stop leaves a gap there.
    [".", ",", "!", "?"]
        .iter()
        .fold(text, |text, mark| text.replace(&format!(" {mark}"), mark))
}

/// A line that holds only a rule, a fence or a table's frame.
pub(super) fn is_decoration(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty()
        && line
            .chars()
            .all(|mark| matches!(mark, '-' | '*' | '_' | '=' | '|' | ':' | '`' | ' '))
}

fn without_line_mark(line: &str) -> &str {
    let line = line.trim_start_matches(['#', '>']).trim_start();
    for bullet in ["- ", "* ", "+ ", "\u{2022} ", "\u{2013} "] {
        if let Some(item) = line.strip_prefix(bullet) {
            return item.trim_start();
        }
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    match line[digits..].strip_prefix(['.', ')']) {
        Some(item) if (1..=2).contains(&digits) && item.starts_with(' ') => item.trim_start(),
        Some(_) | None => line,
    }
}

/// `[words](address)` at the start: the words, and what follows.
fn link(text: &str) -> Option<(&str, &str)> {
    let (words, after) = text.strip_prefix('[')?.split_once(']')?;
    let (_, behind) = after.strip_prefix('(')?.split_once(')')?;
    Some((words, behind))
}

/// `<b>` or `</b>` at the start: nothing, and what follows.
fn tag(text: &str) -> Option<(&str, &str)> {
    let (name, behind) = text.strip_prefix('<')?.split_once('>')?;
    let name = name.strip_prefix('/').unwrap_or(name);
    let is_tag = name.starts_with(|letter: char| letter.is_ascii_alphabetic()) && name.len() <= 40;
    is_tag.then_some(("", behind))
}

fn joins_words(before: &str, after: &str) -> bool {
    before.ends_with(char::is_alphanumeric) && after.starts_with(char::is_alphanumeric)
}

fn is_pictograph(letter: char) -> bool {
    matches!(u32::from(letter),
        0x200D | 0x20E3 | 0xFE00..=0xFE0F | 0x2190..=0x21FF | 0x2300..=0x23FF
        | 0x2460..=0x27BF | 0x2900..=0x297F | 0x2B00..=0x2BFF | 0x3030 | 0x303D
        | 0x1F000..=0x1FAFF | 0xE0000..=0xE007F)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_emoji_and_tags_are_not_said() {
        for (raw, said) in [
            ("**Sure!** We open at *nine*.", "Sure! We open at nine."),
            ("Run `cargo test` now", "Run cargo test now"),
            (
                "Great \u{1F600}! See \u{2764}\u{FE0F}you.",
                "Great! See you.",
            ),
            (
                "Read [our page](https://example.com/a) today",
                "Read our page today",
            ),
            ("This is <b>bold</b>, 3 < 4", "This is bold, 3 < 4"),
            ("file_name and _this_ one", "file_name and this one"),
        ] {
            assert_eq!(plain(raw, false), said);
        }
    }

    #[test]
    fn list_marks_are_taken_only_from_the_start_of_a_line() {
        for (raw, said) in [
            ("- Monday", "Monday"),
            ("2. Tuesday", "Tuesday"),
            ("## Opening hours", "Opening hours"),
            ("> quoted", "quoted"),
            ("12) Noon", "Noon"),
            ("3.5 percent", "3.5 percent"),
            ("-5 degrees", "-5 degrees"),
        ] {
            assert_eq!(plain(raw, true), said);
        }
        assert_eq!(plain("2. Tuesday", false), "2. Tuesday");
    }

    #[test]
    fn rules_and_fences_are_decoration() {
        for line in ["---", "***", "| --- | --- |", "```"] {
            assert!(is_decoration(line), "{line}");
        }
        assert!(!is_decoration("- a"));
        assert!(!is_decoration(""));
    }
}
