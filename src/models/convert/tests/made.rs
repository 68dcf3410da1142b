//! A small Whisper model in CTranslate2's format, and a reader of what it becomes.

use std::collections::HashMap;
use std::io::{Cursor, Read};

use crate::models::convert::half::{half_to_single, single_to_half};
use crate::models::convert::{ConvertError, WeightType, whisper_to_ggml};

/// Width, heads, contexts, layers and vocabulary of the made model.
pub(in crate::models) const D: u32 = 64;
pub(in crate::models) const AUDIO_CONTEXT: u32 = 5;
pub(in crate::models) const TEXT_CONTEXT: u32 = 3;
/// Three ordinary tokens, the end of text, and one special.
pub(in crate::models) const VOCABULARY: u32 = 5;

/// A CTranslate2 file under construction.
#[derive(Clone)]
pub(in crate::models) struct Made {
    pub(in crate::models) version: u32,
    pub(in crate::models) specification: &'static str,
    pub(in crate::models) variables: Vec<(String, Vec<u32>, u8, Vec<u8>)>,
}

/// Values that half precision holds exactly, different for each variable.
pub(in crate::models) fn value(seed: usize, index: usize) -> f32 {
    (((seed * 37 + index * 11) % 255) as f32 - 127.0) / 64.0
}

impl Made {
    pub(in crate::models) fn whisper() -> Self {
        let mut made = Self {
            version: 6,
            specification: "WhisperSpec",
            variables: Vec::new(),
        };
        made.scalar("encoder/num_heads", 1);
        made.scalar("decoder/num_heads", 1);
        made.half("decoder/embeddings/weight", &[VOCABULARY, D]);
        made.half("decoder/position_encodings/encodings", &[TEXT_CONTEXT, D]);
        made.half("encoder/position_encodings/encodings", &[AUDIO_CONTEXT, D]);
        made.half("encoder/conv1/weight", &[D, 80, 3]);
        made.half("encoder/conv1/bias", &[D]);
        made.half("encoder/conv2/weight", &[D, D, 3]);
        made.half("encoder/conv2/bias", &[D]);
        for side in ["encoder", "decoder"] {
            made.norm(&format!("{side}/layer_norm"));
            let layer = format!("{side}/layer_0");
            made.linear(&format!("{layer}/self_attention/linear_0"), 3 * D, D);
            made.linear(&format!("{layer}/self_attention/linear_1"), D, D);
            made.norm(&format!("{layer}/self_attention/layer_norm"));
            made.linear(&format!("{layer}/ffn/linear_0"), 4 * D, D);
            made.linear(&format!("{layer}/ffn/linear_1"), D, 4 * D);
            made.norm(&format!("{layer}/ffn/layer_norm"));
        }
        made.linear("decoder/layer_0/attention/linear_0", D, D);
        made.linear("decoder/layer_0/attention/linear_1", 2 * D, D);
        made.linear("decoder/layer_0/attention/linear_2", D, D);
        made.norm("decoder/layer_0/attention/layer_norm");
        made
    }

    pub(in crate::models) fn scalar(&mut self, name: &str, number: i16) {
        self.variables
            .push((name.into(), vec![], 2, number.to_le_bytes().into()));
    }

    pub(in crate::models) fn half(&mut self, name: &str, dims: &[u32]) {
        let seed = self.variables.len();
        let count = dims.iter().product::<u32>() as usize;
        let bytes = (0..count)
            .flat_map(|i| single_to_half(value(seed, i)).to_le_bytes())
            .collect();
        self.variables.push((name.into(), dims.into(), 4, bytes));
    }

    pub(in crate::models) fn linear(&mut self, name: &str, rows: u32, columns: u32) {
        self.half(&format!("{name}/weight"), &[rows, columns]);
        self.half(&format!("{name}/bias"), &[rows]);
    }

    pub(in crate::models) fn norm(&mut self, name: &str) {
        self.half(&format!("{name}/gamma"), &[D]);
        self.half(&format!("{name}/beta"), &[D]);
    }

    pub(in crate::models) fn variable(
        &mut self,
        name: &str,
    ) -> &mut (String, Vec<u32>, u8, Vec<u8>) {
        self.variables
            .iter_mut()
            .find(|variable| variable.0 == name)
            .unwrap()
    }

    /// The values of a variable, from row `row` on.
    pub(in crate::models) fn rows(&self, name: &str, row: usize, rows: usize) -> Vec<f32> {
        let (seed, (_, dims, ..)) = self
            .variables
            .iter()
            .enumerate()
            .find(|(_, variable)| variable.0 == name)
            .unwrap();
        let width = dims[1..].iter().product::<u32>() as usize;
        (row * width..(row + rows) * width)
            .map(|i| value(seed, i))
            .collect()
    }

    pub(in crate::models) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.version.to_le_bytes());
        put_string(&mut out, self.specification);
        out.extend(3_u32.to_le_bytes());
        out.extend((self.variables.len() as u32).to_le_bytes());
        for (name, dims, element, bytes) in &self.variables {
            put_string(&mut out, name);
            out.push(dims.len() as u8);
            dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
            out.push(*element);
            out.extend((bytes.len() as u32).to_le_bytes());
            out.extend(bytes);
        }
        out.extend(0_u32.to_le_bytes());
        out
    }
}

pub(in crate::models) fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16 + 1).to_le_bytes());
    out.extend(text.as_bytes());
    out.push(0);
}

pub(in crate::models) const TOKENIZER: &str = r#"{
    "model": {"vocab": {"a": 0, "Ġthe": 1, "": 2, "<|endoftext|>": 3}},
    "added_tokens": [{"id": 3, "content": "<|endoftext|>"}, {"id": 4, "content": "<|startoftranscript|>"}]
}"#;

pub(in crate::models) fn convert(
    model: &Made,
    weights: WeightType,
) -> Result<Vec<u8>, ConvertError> {
    convert_bytes(model.bytes(), TOKENIZER, weights)
}

pub(in crate::models) fn convert_bytes(
    model: Vec<u8>,
    tokenizer: &str,
    weights: WeightType,
) -> Result<Vec<u8>, ConvertError> {
    let mut out = Vec::new();
    whisper_to_ggml(
        Cursor::new(model),
        tokenizer.as_bytes(),
        weights,
        &mut out,
        |_| (),
    )?;
    Ok(out)
}

pub(in crate::models) fn refusal(model: &Made) -> String {
    convert(model, WeightType::F16).unwrap_err().to_string()
}

/// A GGML file as whisper.cpp's loader reads it.
pub(in crate::models) struct Ggml {
    pub(in crate::models) numbers: Vec<u32>,
    pub(in crate::models) filters: Vec<f32>,
    pub(in crate::models) tokens: Vec<Vec<u8>>,
    /// Name to dims as written, type and bytes.
    pub(in crate::models) tensors: HashMap<String, (Vec<u32>, u32, Vec<u8>)>,
    pub(in crate::models) order: Vec<String>,
}

impl Ggml {
    pub(in crate::models) fn parse(bytes: &[u8]) -> Self {
        let mut at = Cursor::new(bytes);
        let numbers: Vec<u32> = (0..12).map(|_| u32_of(&mut at)).collect();
        let (mels, bins) = (u32_of(&mut at), u32_of(&mut at));
        let filters = (0..mels * bins)
            .map(|_| f32::from_le_bytes(take(&mut at, 4).try_into().unwrap()))
            .collect();
        let tokens = (0..u32_of(&mut at))
            .map(|_| {
                let length = u32_of(&mut at);
                take(&mut at, length)
            })
            .collect();
        let (mut tensors, mut order) = (HashMap::new(), Vec::new());
        while at.position() < bytes.len() as u64 {
            let (rank, name, kind) = (u32_of(&mut at), u32_of(&mut at), u32_of(&mut at));
            let dims: Vec<u32> = (0..rank).map(|_| u32_of(&mut at)).collect();
            let name = String::from_utf8(take(&mut at, name)).unwrap();
            let count: u32 = dims.iter().product();
            let length = match kind {
                0 => count * 4,
                1 => count * 2,
                8 => count / 32 * 34,
                other => panic!("type {other}"),
            };
            let data = take(&mut at, length);
            order.push(name.clone());
            assert!(tensors.insert(name, (dims, kind, data)).is_none());
        }
        Self {
            numbers,
            filters,
            tokens,
            tensors,
            order,
        }
    }

    pub(in crate::models) fn single(&self, name: &str) -> Vec<f32> {
        let (_, kind, bytes) = &self.tensors[name];
        assert_eq!(*kind, 0, "{name}");
        bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect()
    }

    pub(in crate::models) fn half(&self, name: &str) -> Vec<f32> {
        let (_, kind, bytes) = &self.tensors[name];
        assert_eq!(*kind, 1, "{name}");
        bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&bytes| half_to_single(u16::from_le_bytes(bytes)))
            .collect()
    }
}

pub(in crate::models) fn take(at: &mut Cursor<&[u8]>, length: u32) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    at.read_exact(&mut bytes).unwrap();
    bytes
}

pub(in crate::models) fn u32_of(at: &mut Cursor<&[u8]>) -> u32 {
    u32::from_le_bytes(take(at, 4).try_into().unwrap())
}
