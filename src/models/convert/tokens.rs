//! The byte strings of Whisper's ordinary tokens, out of a Hugging Face `tokenizer.json`.

use std::collections::HashMap;
use std::io::Read;

use serde::Deserialize;

use super::ConvertError;

/// The largest tokenizer known is 2.5 MB.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Deserialize)]
struct Tokenizer {
    model: Vocabulary,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct Vocabulary {
    vocab: HashMap<String, u32>,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

/// Reads GPT-2's 50,257 entries, by id. The last of them is empty in the multilingual tokenizer
/// and `<|endoftext|>` itself in the English one; the rest are special, and the GGML loader makes
/// them itself.
///
/// # Errors
/// [`ConvertError::Malformed`] if the text is no such tokenizer, or an id is missing or given
/// twice.
pub(super) fn ordinary_tokens(reader: impl Read) -> Result<Vec<Vec<u8>>, ConvertError> {
    let mut text = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return malformed(format!("tokenizer is larger than {MAX_BYTES} bytes"));
    }
    let tokenizer: Tokenizer = serde_json::from_slice(&text)
        .map_err(|error| ConvertError::Malformed(format!("tokenizer: {error}")))?;
    let end = tokenizer
        .added_tokens
        .iter()
        .find(|token| token.content == "<|endoftext|>")
        .map(|token| token.id)
        .or_else(|| tokenizer.model.vocab.get("<|endoftext|>").copied());
    let Some(end) = end else {
        return malformed("tokenizer has no <|endoftext|>".into());
    };
    let end = if tokenizer.model.vocab.contains_key("") {
        end
    } else {
        end.saturating_add(1)
    };
    // Ids past the number of entries cannot all be present: refuse before allocating for them.
    if end as usize > tokenizer.model.vocab.len() {
        return malformed(format!("tokenizer has fewer than {end} tokens"));
    }
    let bytes_of = byte_of_letter();
    let mut tokens: Vec<Option<Vec<u8>>> = vec![None; end as usize];
    for (letters, &id) in &tokenizer.model.vocab {
        let Some(slot) = tokens.get_mut(id as usize) else {
            continue;
        };
        let bytes = letters
            .chars()
            .map(|letter| bytes_of.get(&letter).copied())
            .collect::<Option<Vec<u8>>>();
        match bytes {
            None => return malformed(format!("token {id} is not in the byte-level alphabet")),
            Some(_) if slot.is_some() => return malformed(format!("token {id} appears twice")),
            Some(bytes) => *slot = Some(bytes),
        }
    }
    tokens
        .into_iter()
        .enumerate()
        .map(|(id, token)| {
            token.ok_or_else(|| ConvertError::Malformed(format!("token {id} is missing")))
        })
        .collect()
}

/// GPT-2's alphabet: printable Latin-1 letters stand for their own byte, the other 68 bytes for
/// the letters from U+0100 on, in order.
fn byte_of_letter() -> HashMap<char, u8> {
    let mut next = 0x100_u32;
    (0..=u8::MAX)
        .filter_map(|byte| {
            let letter = match byte {
                b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
                _ => {
                    next += 1;
                    char::from_u32(next - 1)?
                }
            };
            Some((letter, byte))
        })
        .collect()
}

fn malformed<T>(what: String) -> Result<T, ConvertError> {
    Err(ConvertError::Malformed(what))
}
