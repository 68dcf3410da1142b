//! Which rows of which CTranslate2 variable become which GGML tensor of a Whisper model, in the
//! order that OpenAI's checkpoints have them.
//!
//! `linear_0` of self-attention holds query, key and value stacked on rows and `linear_1` is the
//! output; in cross-attention `linear_0` is the query, `linear_1` key and value stacked, and
//! `linear_2` the output. GGML has no key bias (Whisper was trained without one).

use std::io::{Read, Seek};

use super::ConvertError;
use super::ct2::Model;

/// The numbers at the head of a GGML Whisper file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Tokens, special ones included.
    pub(super) vocabulary: u32,
    /// Positions of the encoder's output: 1,500 for 30 s.
    pub(super) audio_context: u32,
    /// Width of the model.
    pub(super) width: u32,
    /// Attention heads, `width / 64`.
    pub(super) heads: u32,
    /// Encoder layers.
    pub(super) audio_layers: u32,
    /// Longest text, in tokens.
    pub(super) text_context: u32,
    /// Decoder layers.
    pub(super) text_layers: u32,
    /// Mel bands: 80, or 128 from large-v3 on.
    pub(super) mels: u32,
}

/// How a tensor is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// Always single precision: vectors, convolution biases and positional embeddings.
    Single,
    /// Always half precision: convolution kernels.
    Half,
    /// In the model's own type: the matrices.
    Weight,
}

/// One tensor to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    /// OpenAI's name for it.
    pub(super) name: String,
    /// Sizes, slowest-varying first; GGML writes them the other way round.
    pub(super) dims: Vec<u32>,
    /// How it is written.
    pub(super) storage: Storage,
    /// The variable that it comes from.
    pub(super) source: String,
    /// The first row of that variable that belongs to it.
    pub(super) first_row: u32,
}

/// More layers than any Whisper has; bounds the search for them.
const MAX_LAYERS: u32 = 128;

impl Shape {
    /// Reads the shape off the variables.
    ///
    /// # Errors
    /// [`ConvertError::Malformed`] if this is no Whisper model.
    pub(super) fn of<R: Read + Seek>(model: &mut Model<R>) -> Result<Self, ConvertError> {
        if model.specification() != "WhisperSpec" {
            return Err(ConvertError::Malformed(format!(
                "the model is a {}, not a WhisperSpec",
                model.specification()
            )));
        }
        let [vocabulary, width] = dims(model, "decoder/embeddings/weight")?;
        let [audio_context, _] = dims(model, "encoder/position_encodings/encodings")?;
        let [text_context, _] = dims(model, "decoder/position_encodings/encodings")?;
        let [_, mels, _] = dims(model, "encoder/conv1/weight")?;
        let layers = |side: &str| {
            (0..MAX_LAYERS)
                .take_while(|n| {
                    model.contains(&format!("{side}/layer_{n}/layer_norm/gamma"))
                        || model
                            .contains(&format!("{side}/layer_{n}/self_attention/linear_0/weight"))
                })
                .count() as u32
        };
        let (audio_layers, text_layers) = (layers("encoder"), layers("decoder"));
        let heads = width / 64;
        for side in ["encoder/num_heads", "decoder/num_heads"] {
            let stored = model.integer(side)?;
            if heads == 0 || width % 64 != 0 || i64::from(stored) != i64::from(heads) {
                return Err(ConvertError::Malformed(format!(
                    "{side} is {stored}, where a width of {width} has {heads}"
                )));
            }
        }
        if audio_layers == 0 || text_layers == 0 {
            return Err(ConvertError::Malformed("the model has no layers".into()));
        }
        Ok(Self {
            vocabulary,
            audio_context,
            width,
            heads,
            audio_layers,
            text_context,
            text_layers,
            mels,
        })
    }

    /// All tensors, in the order they are written.
    pub(super) fn tensors(&self) -> Vec<Tensor> {
        let d = self.width;
        let mut out = Layout {
            tensors: Vec::new(),
        };
        out.add(
            "decoder.positional_embedding",
            "decoder/position_encodings/encodings",
            &[self.text_context, d],
            Storage::Single,
        );
        out.add(
            "encoder.positional_embedding",
            "encoder/position_encodings/encodings",
            &[self.audio_context, d],
            Storage::Single,
        );
        out.add(
            "decoder.token_embedding.weight",
            "decoder/embeddings/weight",
            &[self.vocabulary, d],
            Storage::Weight,
        );
        for n in 0..self.text_layers {
            out.layer(
                &format!("decoder.blocks.{n}"),
                &format!("decoder/layer_{n}"),
                d,
                true,
            );
        }
        out.norm("decoder.ln", "decoder/layer_norm", d);
        for (conv, inputs) in [("conv1", self.mels), ("conv2", d)] {
            let (name, source) = (format!("encoder.{conv}"), format!("encoder/{conv}"));
            out.add(
                &format!("{name}.weight"),
                &format!("{source}/weight"),
                &[d, inputs, 3],
                Storage::Half,
            );
            out.add(
                &format!("{name}.bias"),
                &format!("{source}/bias"),
                &[d, 1],
                Storage::Single,
            );
        }
        for n in 0..self.audio_layers {
            out.layer(
                &format!("encoder.blocks.{n}"),
                &format!("encoder/layer_{n}"),
                d,
                false,
            );
        }
        out.norm("encoder.ln_post", "encoder/layer_norm", d);
        out.tensors
    }
}

fn dims<R: Read + Seek, const N: usize>(
    model: &Model<R>,
    name: &str,
) -> Result<[u32; N], ConvertError> {
    let dims = &model.variable(name)?.dims;
    <[u32; N]>::try_from(dims.as_slice())
        .map_err(|_| ConvertError::Malformed(format!("variable {name} has the shape {dims:?}")))
}

struct Layout {
    tensors: Vec<Tensor>,
}

impl Layout {
    fn add(&mut self, name: &str, source: &str, dims: &[u32], storage: Storage) {
        self.rows(name, source, dims, storage, 0);
    }

    fn rows(&mut self, name: &str, source: &str, dims: &[u32], storage: Storage, first_row: u32) {
        self.tensors.push(Tensor {
            name: name.into(),
            dims: dims.into(),
            storage,
            source: source.into(),
            first_row,
        });
    }

    /// Part `part` of the parts of `d` rows that are stacked in one linear layer.
    fn linear_part(&mut self, name: &str, source: &str, d: u32, part: u32, bias: bool) {
        self.rows(
            &format!("{name}.weight"),
            &format!("{source}/weight"),
            &[d, d],
            Storage::Weight,
            part * d,
        );
        if bias {
            self.rows(
                &format!("{name}.bias"),
                &format!("{source}/bias"),
                &[d],
                Storage::Single,
                part * d,
            );
        }
    }

    fn linear(&mut self, name: &str, source: &str, rows: u32, columns: u32) {
        self.add(
            &format!("{name}.weight"),
            &format!("{source}/weight"),
            &[rows, columns],
            Storage::Weight,
        );
        self.add(
            &format!("{name}.bias"),
            &format!("{source}/bias"),
            &[rows],
            Storage::Single,
        );
    }

    fn norm(&mut self, name: &str, source: &str, d: u32) {
        self.add(
            &format!("{name}.weight"),
            &format!("{source}/gamma"),
            &[d],
            Storage::Single,
        );
        self.add(
            &format!("{name}.bias"),
            &format!("{source}/beta"),
            &[d],
            Storage::Single,
        );
    }

    fn layer(&mut self, name: &str, source: &str, d: u32, cross: bool) {
        let ffn = format!("{source}/ffn");
        self.norm(&format!("{name}.mlp_ln"), &format!("{ffn}/layer_norm"), d);
        self.linear(
            &format!("{name}.mlp.0"),
            &format!("{ffn}/linear_0"),
            4 * d,
            d,
        );
        self.linear(
            &format!("{name}.mlp.2"),
            &format!("{ffn}/linear_1"),
            d,
            4 * d,
        );
        let own = format!("{source}/self_attention");
        self.norm(&format!("{name}.attn_ln"), &format!("{own}/layer_norm"), d);
        self.linear_part(
            &format!("{name}.attn.query"),
            &format!("{own}/linear_0"),
            d,
            0,
            true,
        );
        self.linear_part(
            &format!("{name}.attn.key"),
            &format!("{own}/linear_0"),
            d,
            1,
            false,
        );
        self.linear_part(
            &format!("{name}.attn.value"),
            &format!("{own}/linear_0"),
            d,
            2,
            true,
        );
        self.linear_part(
            &format!("{name}.attn.out"),
            &format!("{own}/linear_1"),
            d,
            0,
            true,
        );
        if cross {
            let other = format!("{source}/attention");
            self.norm(
                &format!("{name}.cross_attn_ln"),
                &format!("{other}/layer_norm"),
                d,
            );
            self.linear_part(
                &format!("{name}.cross_attn.query"),
                &format!("{other}/linear_0"),
                d,
                0,
                true,
            );
            self.linear_part(
                &format!("{name}.cross_attn.key"),
                &format!("{other}/linear_1"),
                d,
                0,
                false,
            );
            self.linear_part(
                &format!("{name}.cross_attn.value"),
                &format!("{other}/linear_1"),
                d,
                1,
                true,
            );
            self.linear_part(
                &format!("{name}.cross_attn.out"),
                &format!("{other}/linear_2"),
                d,
                0,
                true,
            );
        }
    }
}
