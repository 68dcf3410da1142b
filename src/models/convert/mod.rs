//! Turns a CTranslate2 Whisper model into the GGML file that whisper.cpp loads.
//!
//! One pass over the tensors in OpenAI's order, a piece of each at a time: about 10 MB of memory
//! however large the model, most of it for the tokenizer. The outcome depends on the input alone,
//! and is the publisher's own GGML file, byte for byte.

mod ct2;
mod half;
mod layout;
mod mel;
#[cfg(test)]
pub(super) mod tests;
mod tokens;

use std::io::{self, Read, Seek, Write};

use thiserror::Error;

use self::ct2::{Element, Model, Variable};
use self::half::{BLOCK, half_to_single, quantise_q8_0, single_to_half};
use self::layout::{Shape, Storage, Tensor};

const MAGIC: u32 = 0x6767_6d6c;
/// Values converted at a time; a multiple of [`BLOCK`].
const PIECE: u64 = 64 * 1024;

/// Why a conversion failed.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// The input is not what it should be. Not retryable: another source is needed.
    #[error("not a CTranslate2 Whisper model that can be converted: {0}")]
    Malformed(String),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The type of the matrices in the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightType {
    /// Half precision.
    F16,
    /// Blocks of 32 signed bytes with one half-precision scale: what a CPU wants.
    Q8_0,
}

impl WeightType {
    /// The file's type, with llama.cpp's quantisation version 2 in the thousands.
    fn file_code(self) -> u32 {
        match self {
            Self::F16 => 1,
            Self::Q8_0 => 2_007,
        }
    }
}

/// Reads `model` (CTranslate2, with half- or single-precision weights) and `tokenizer` (its
/// `tokenizer.json`) and writes the GGML file to `out`. `progress` is told the share done,
/// from 0 to 1, after each tensor.
///
/// # Errors
/// [`ConvertError::Malformed`] if the input is something else, truncated, or contradicts itself.
pub fn whisper_to_ggml<R: Read + Seek>(
    model: R,
    tokenizer: impl Read,
    weights: WeightType,
    out: &mut impl Write,
    mut progress: impl FnMut(f64),
) -> Result<(), ConvertError> {
    let mut model = Model::open(model)?;
    let shape = Shape::of(&mut model)?;
    let tensors = shape.tensors();
    let total: u64 = tensors.iter().map(Tensor::values).sum();
    write_header(&shape, weights, out)?;
    write_tokens(&tokens::ordinary_tokens(tokenizer)?, &shape, out)?;
    let mut done = 0;
    for tensor in &tensors {
        write_tensor(&mut model, tensor, weights, out)?;
        done += tensor.values();
        progress(done as f64 / total as f64);
    }
    Ok(())
}

impl Tensor {
    fn values(&self) -> u64 {
        self.dims.iter().map(|&dim| u64::from(dim)).product()
    }

    /// Where the tensor's values start, after checking that the variable holds them.
    fn offset_in(&self, variable: &Variable) -> Result<u64, ConvertError> {
        let row: u64 = self
            .dims
            .iter()
            .skip(1)
            .map(|&dim| u64::from(dim))
            .product();
        let expected_row: u64 = variable
            .dims
            .iter()
            .skip(1)
            .map(|&dim| u64::from(dim))
            .product();
        let rows = u64::from(variable.dims.first().copied().unwrap_or(0));
        let last = u64::from(self.first_row) + u64::from(self.dims.first().copied().unwrap_or(0));
        if row != expected_row || last > rows {
            return Err(ConvertError::Malformed(format!(
                "variable {} of shape {:?} cannot hold {} ({:?} from row {})",
                self.source, variable.dims, self.name, self.dims, self.first_row
            )));
        }
        Ok(variable.offset + u64::from(self.first_row) * row * variable.element.size())
    }
}

fn put(out: &mut impl Write, number: u32) -> io::Result<()> {
    out.write_all(&number.to_le_bytes())
}

fn write_header(
    shape: &Shape,
    weights: WeightType,
    out: &mut impl Write,
) -> Result<(), ConvertError> {
    if !matches!(shape.mels, 80 | 128) {
        return Err(ConvertError::Malformed(format!(
            "{} mel bands; Whisper has 80 or 128",
            shape.mels
        )));
    }
    let numbers = [
        MAGIC,
        shape.vocabulary,
        shape.audio_context,
        shape.width,
        shape.heads,
        shape.audio_layers,
        shape.text_context,
        shape.width,
        shape.heads,
        shape.text_layers,
        shape.mels,
        weights.file_code(),
        shape.mels,
        mel::BINS,
    ];
    for number in numbers {
        put(out, number)?;
    }
    for weight in mel::filterbank(shape.mels) {
        out.write_all(&weight.to_le_bytes())?;
    }
    Ok(())
}

fn write_tokens(
    tokens: &[Vec<u8>],
    shape: &Shape,
    out: &mut impl Write,
) -> Result<(), ConvertError> {
    let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
    if count >= shape.vocabulary {
        return Err(ConvertError::Malformed(format!(
            "the tokenizer has {count} ordinary tokens and the model only {} in all",
            shape.vocabulary
        )));
    }
    put(out, count)?;
    for token in tokens {
        put(out, u32::try_from(token.len()).unwrap_or(u32::MAX))?;
        out.write_all(token)?;
    }
    Ok(())
}

/// The types of values in a GGML file, by their codes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TensorType {
    F32 = 0,
    F16 = 1,
    Q8_0 = 8,
}

fn write_tensor<R: Read + Seek>(
    model: &mut Model<R>,
    tensor: &Tensor,
    weights: WeightType,
    out: &mut impl Write,
) -> Result<(), ConvertError> {
    let variable = model.variable(&tensor.source)?;
    let element = variable.element;
    let size = match element {
        Element::F32 | Element::F16 => element.size(),
        Element::I8 | Element::I16 | Element::I32 => {
            return Err(ConvertError::Malformed(format!(
                "variable {} is quantised; only half and single precision can be converted",
                tensor.source
            )));
        }
    };
    let kind = match (tensor.storage, weights) {
        (Storage::Single, _) => TensorType::F32,
        (Storage::Half, _) | (Storage::Weight, WeightType::F16) => TensorType::F16,
        (Storage::Weight, WeightType::Q8_0) => TensorType::Q8_0,
    };
    let mut offset = tensor.offset_in(variable)?;
    put(out, tensor.dims.len() as u32)?;
    put(out, tensor.name.len() as u32)?;
    put(out, kind as u32)?;
    for &dim in tensor.dims.iter().rev() {
        put(out, dim)?;
    }
    out.write_all(tensor.name.as_bytes())?;

    // The width is a multiple of 64, so that no block of a matrix straddles two rows.
    debug_assert!(kind != TensorType::Q8_0 || tensor.values().is_multiple_of(BLOCK as u64));
    let mut left = tensor.values();
    let mut raw = Vec::new();
    let mut encoded = Vec::new();
    while left > 0 {
        let count = left.min(PIECE);
        raw.resize((count * size) as usize, 0);
        model.read_at(offset, &mut raw)?;
        encoded.clear();
        encode(&raw, element, kind, &mut encoded);
        out.write_all(&encoded)?;
        offset += count * size;
        left -= count;
    }
    Ok(())
}

/// Appends the values of `raw` to `out` as `kind`. `element` is [`Element::F16`], or else single.
fn encode(raw: &[u8], element: Element, kind: TensorType, out: &mut Vec<u8>) {
    if (element, kind) == (Element::F16, TensorType::F16)
        || (element, kind) == (Element::F32, TensorType::F32)
    {
        out.extend_from_slice(raw);
        return;
    }
    let values: Vec<f32> = if element == Element::F16 {
        raw.as_chunks::<2>()
            .0
            .iter()
            .map(|&bytes| half_to_single(u16::from_le_bytes(bytes)))
            .collect()
    } else {
        raw.as_chunks::<4>()
            .0
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect()
    };
    match kind {
        TensorType::F32 => values
            .iter()
            .for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
        TensorType::F16 => {
            values
                .iter()
                .for_each(|&value| out.extend_from_slice(&single_to_half(value).to_le_bytes()));
        }
        TensorType::Q8_0 => quantise_q8_0(&values, out),
    }
}
