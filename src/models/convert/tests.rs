#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod made;

use sha2::{Digest, Sha256};

use made::{AUDIO_CONTEXT, D, Ggml, TEXT_CONTEXT, VOCABULARY, convert_bytes, refusal};
pub(in crate::models) use made::{Made, TOKENIZER, convert};

use super::half::{half_to_single, quantise_q8_0, single_to_half};
use super::mel::filterbank;
use super::{ConvertError, WeightType};

#[test]
fn header_says_the_shape() {
    let ggml = Ggml::parse(&convert(&Made::whisper(), WeightType::F16).unwrap());
    assert_eq!(
        ggml.numbers,
        [
            0x6767_6d6c,
            VOCABULARY,
            AUDIO_CONTEXT,
            D,
            1,
            1,
            TEXT_CONTEXT,
            D,
            1,
            1,
            80,
            1
        ]
    );
    let q8_0 = Ggml::parse(&convert(&Made::whisper(), WeightType::Q8_0).unwrap());
    assert_eq!(q8_0.numbers[11], 2007, "quantisation version 2, type 7");
}

#[test]
fn tokens_are_their_bytes() {
    let ggml = Ggml::parse(&convert(&Made::whisper(), WeightType::F16).unwrap());
    assert_eq!(ggml.tokens, [b"a".to_vec(), b" the".to_vec(), b"".to_vec()]);
}

#[test]
fn english_tokenizer_ends_with_the_end_of_text() {
    let english = r#"{"model": {"vocab": {"a": 0, "é": 1, "<|endoftext|>": 2}},
        "added_tokens": [{"id": 2, "content": "<|endoftext|>"}]}"#;
    let bytes = convert_bytes(Made::whisper().bytes(), english, WeightType::F16).unwrap();
    let tokens = Ggml::parse(&bytes).tokens;
    assert_eq!(
        tokens,
        [b"a".to_vec(), vec![0xe9], b"<|endoftext|>".to_vec()]
    );
}

#[test]
fn mel_filters_are_the_originals_to_the_bit() {
    // Of `mel_80` and `mel_128` in OpenAI's mel_filters.npz, which librosa computed, with the
    // one negative zero made positive, as it is in the published GGML files.
    for (mels, sha256) in [
        (
            80,
            "85818f156f7e189453901a515e4726d270d307f976e161cf9403e8caab405498",
        ),
        (
            128,
            "e399c2d72d2f7375e503c296d8453cefcc0c1e47a9c1a0a09e0d70f59c820f20",
        ),
    ] {
        let bytes: Vec<u8> = filterbank(mels)
            .iter()
            .flat_map(|weight| weight.to_le_bytes())
            .collect();
        let found: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(found, sha256, "{mels} bands");
    }
    let ggml = Ggml::parse(&convert(&Made::whisper(), WeightType::F16).unwrap());
    assert_eq!(ggml.filters, filterbank(80));
}

#[test]
fn stacked_rows_become_query_key_and_value() {
    let made = Made::whisper();
    let ggml = Ggml::parse(&convert(&made, WeightType::F16).unwrap());
    let d = D as usize;
    for (name, source, row) in [
        (
            "encoder.blocks.0.attn.query",
            "encoder/layer_0/self_attention/linear_0",
            0,
        ),
        (
            "encoder.blocks.0.attn.key",
            "encoder/layer_0/self_attention/linear_0",
            d,
        ),
        (
            "encoder.blocks.0.attn.value",
            "encoder/layer_0/self_attention/linear_0",
            2 * d,
        ),
        (
            "encoder.blocks.0.attn.out",
            "encoder/layer_0/self_attention/linear_1",
            0,
        ),
        (
            "decoder.blocks.0.cross_attn.query",
            "decoder/layer_0/attention/linear_0",
            0,
        ),
        (
            "decoder.blocks.0.cross_attn.key",
            "decoder/layer_0/attention/linear_1",
            0,
        ),
        (
            "decoder.blocks.0.cross_attn.value",
            "decoder/layer_0/attention/linear_1",
            d,
        ),
        (
            "decoder.blocks.0.cross_attn.out",
            "decoder/layer_0/attention/linear_2",
            0,
        ),
    ] {
        assert_eq!(ggml.tensors[&format!("{name}.weight")].0, [D, D]);
        assert_eq!(
            ggml.half(&format!("{name}.weight")),
            made.rows(&format!("{source}/weight"), row, d),
            "{name}"
        );
        let bias = format!("{name}.bias");
        if name.ends_with(".key") {
            assert!(!ggml.tensors.contains_key(&bias));
        } else {
            assert_eq!(
                ggml.single(&bias),
                made.rows(&format!("{source}/bias"), row, d),
                "{bias}"
            );
        }
    }
}

#[test]
fn every_other_tensor_keeps_its_values() {
    let made = Made::whisper();
    let ggml = Ggml::parse(&convert(&made, WeightType::F16).unwrap());
    // 9 outside the layers (two norms of two), 15 in an encoder layer, 24 in a decoder layer.
    assert_eq!(ggml.tensors.len(), 11 + 15 + 24);
    assert_eq!(
        ggml.order[..3],
        [
            "decoder.positional_embedding",
            "encoder.positional_embedding",
            "decoder.token_embedding.weight"
        ]
    );
    let d = D as usize;
    assert_eq!(
        ggml.half("decoder.token_embedding.weight"),
        made.rows("decoder/embeddings/weight", 0, VOCABULARY as usize)
    );
    assert_eq!(
        ggml.single("encoder.positional_embedding"),
        made.rows(
            "encoder/position_encodings/encodings",
            0,
            AUDIO_CONTEXT as usize
        )
    );
    assert_eq!(
        ggml.single("decoder.positional_embedding"),
        made.rows(
            "decoder/position_encodings/encodings",
            0,
            TEXT_CONTEXT as usize
        )
    );
    assert_eq!(ggml.tensors["encoder.conv1.weight"].0, [3, 80, D]);
    assert_eq!(
        ggml.half("encoder.conv1.weight"),
        made.rows("encoder/conv1/weight", 0, d)
    );
    assert_eq!(
        ggml.tensors["encoder.conv2.bias"].0,
        [1, D],
        "a column, which ggml adds to every frame"
    );
    assert_eq!(
        ggml.single("encoder.conv2.bias"),
        made.rows("encoder/conv2/bias", 0, d)
    );
    assert_eq!(
        ggml.single("encoder.ln_post.weight"),
        made.rows("encoder/layer_norm/gamma", 0, d)
    );
    assert_eq!(
        ggml.single("decoder.ln.bias"),
        made.rows("decoder/layer_norm/beta", 0, d)
    );
    for side in ["encoder", "decoder"] {
        let (name, source) = (format!("{side}.blocks.0"), format!("{side}/layer_0"));
        assert_eq!(ggml.tensors[&format!("{name}.mlp.0.weight")].0, [D, 4 * D]);
        assert_eq!(
            ggml.half(&format!("{name}.mlp.0.weight")),
            made.rows(&format!("{source}/ffn/linear_0/weight"), 0, 4 * d)
        );
        assert_eq!(
            ggml.half(&format!("{name}.mlp.2.weight")),
            made.rows(&format!("{source}/ffn/linear_1/weight"), 0, d)
        );
        assert_eq!(
            ggml.single(&format!("{name}.mlp_ln.weight")),
            made.rows(&format!("{source}/ffn/layer_norm/gamma"), 0, d)
        );
        assert_eq!(
            ggml.single(&format!("{name}.attn_ln.bias")),
            made.rows(&format!("{source}/self_attention/layer_norm/beta"), 0, d)
        );
    }
    assert_eq!(
        ggml.single("decoder.blocks.0.cross_attn_ln.weight"),
        made.rows("decoder/layer_0/attention/layer_norm/gamma", 0, d)
    );
}

#[test]
fn single_precision_weights_become_the_same_file() {
    let half = Made::whisper();
    let mut single = half.clone();
    for (_, _, element, bytes) in single
        .variables
        .iter_mut()
        .filter(|variable| variable.2 == 4)
    {
        *element = 0;
        *bytes = bytes
            .as_chunks::<2>()
            .0
            .iter()
            .flat_map(|&bytes| half_to_single(u16::from_le_bytes(bytes)).to_le_bytes())
            .collect();
    }
    for weights in [WeightType::F16, WeightType::Q8_0] {
        assert!(convert(&single, weights).unwrap() == convert(&half, weights).unwrap());
    }
}

#[test]
fn q8_0_stays_within_half_a_step() {
    let made = Made::whisper();
    let ggml = Ggml::parse(&convert(&made, WeightType::Q8_0).unwrap());
    let (_, kind, bytes) = &ggml.tensors["decoder.blocks.0.mlp.0.weight"];
    assert_eq!(*kind, 8);
    let exact = made.rows("decoder/layer_0/ffn/linear_0/weight", 0, 4 * D as usize);
    for (block, values) in bytes
        .as_chunks::<34>()
        .0
        .iter()
        .zip(exact.as_chunks::<32>().0)
    {
        let scale = half_to_single(u16::from_le_bytes([block[0], block[1]]));
        for (&step, &value) in block[2..].iter().zip(values) {
            let error = (f32::from(step as i8) * scale - value).abs();
            // Half a step, and the rounding of the scale itself (2^-11 of up to 127 steps).
            assert!(error <= scale * 0.57, "{value} came back {error} off");
        }
    }
    // Vectors, kernels and positions are not quantised.
    assert_eq!(ggml.tensors["encoder.conv1.weight"].1, 1);
    assert_eq!(ggml.tensors["decoder.positional_embedding"].1, 0);
    assert_eq!(ggml.tensors["decoder.ln.weight"].1, 0);
}

#[test]
fn q8_0_block_is_the_reference_codes() {
    let mut values = [0.0_f32; 32];
    values[..4].copy_from_slice(&[127.0, -127.0, 0.5, -1.49]);
    let mut out = Vec::new();
    quantise_q8_0(&values, &mut out);
    // A scale of one; halves are rounded away from zero, as C's roundf does.
    assert_eq!(out[..6], [0x00, 0x3c, 127, 129, 1, 255]);
    out.clear();
    quantise_q8_0(&[0.0; 32], &mut out);
    assert_eq!(out, [0; 34]);
}

#[test]
fn half_precision_goes_there_and_back() {
    for bits in 0..=u16::MAX {
        let single = half_to_single(bits);
        if single.is_nan() {
            assert!(half_to_single(single_to_half(single)).is_nan());
        } else {
            assert_eq!(single_to_half(single), bits, "{single}");
        }
    }
}

#[test]
fn half_precision_rounds_to_nearest_even() {
    for (single, half) in [
        (1.0 + 2.0_f32.powi(-11), 0x3c00),
        (1.0 + 3.0 * 2.0_f32.powi(-11), 0x3c02),
        (1.0 + 2.0_f32.powi(-11) + 2.0_f32.powi(-20), 0x3c01),
        (65_519.0, 0x7bff),
        (65_520.0, 0x7c00),
        (1e9, 0x7c00),
        (-1e9, 0xfc00),
        (2.0_f32.powi(-24), 0x0001),
        (2.0_f32.powi(-25), 0x0000),
        (2.0_f32.powi(-25) * 1.5, 0x0001),
        (2.0_f32.powi(-26), 0x0000),
        (-0.0, 0x8000),
    ] {
        assert_eq!(single_to_half(single), half, "{single}");
    }
}

#[test]
fn every_truncation_is_refused() {
    let bytes = Made::whisper().bytes();
    let whole = bytes.len() - 4; // the list of aliases is not needed
    for length in (0..2_000)
        .chain((2_000..whole).step_by(997))
        .chain([whole - 1])
    {
        let error =
            convert_bytes(bytes[..length].to_vec(), TOKENIZER, WeightType::F16).unwrap_err();
        assert!(
            matches!(error, ConvertError::Malformed(_)),
            "at {length}: {error}"
        );
    }
}

#[test]
fn contradictions_are_refused_by_name() {
    let whisper = Made::whisper();

    let mut made = whisper.clone();
    made.version = 5;
    assert!(refusal(&made).contains("version 5"));

    let mut made = whisper.clone();
    made.specification = "TransformerSpec";
    assert!(refusal(&made).contains("TransformerSpec"));

    let mut made = whisper.clone();
    made.variable("encoder/conv1/bias").1 = vec![u32::MAX, u32::MAX, u32::MAX];
    assert!(
        refusal(&made).contains("encoder/conv1/bias"),
        "dims whose product overflows"
    );

    let mut made = whisper.clone();
    made.variable("encoder/conv1/bias").2 = 9;
    assert!(refusal(&made).contains("element type 9"));

    let mut made = whisper.clone();
    made.variables
        .retain(|variable| variable.0 != "decoder/layer_0/ffn/linear_0/bias");
    assert!(refusal(&made).contains("decoder/layer_0/ffn/linear_0/bias is missing"));

    let mut made = whisper.clone();
    let name = "decoder/layer_0/attention/linear_1/weight";
    let bytes = made.variable(name).3.clone();
    *made.variable(name) = (
        name.into(),
        vec![D, D],
        4,
        bytes[..bytes.len() / 2].to_vec(),
    );
    assert!(refusal(&made).contains("cannot hold decoder.blocks.0.cross_attn.value.weight"));

    let mut made = whisper.clone();
    *made.variable("encoder/num_heads") = (
        "encoder/num_heads".into(),
        vec![],
        2,
        7_i16.to_le_bytes().into(),
    );
    assert!(refusal(&made).contains("encoder/num_heads is 7"));

    let mut made = whisper.clone();
    let variable = made.variable("decoder/embeddings/weight");
    (variable.2, variable.3) = (1, vec![0; (VOCABULARY * D) as usize]);
    assert!(refusal(&made).contains("quantised"));

    let mut made = whisper;
    made.variables.push(made.variables[3].clone());
    assert!(refusal(&made).contains("twice"));
}

#[test]
fn a_huge_count_or_name_is_not_believed() {
    let mut bytes = Made {
        variables: Vec::new(),
        ..Made::whisper()
    }
    .bytes();
    let count = 4 + 2 + "WhisperSpec".len() + 1 + 4;
    bytes[count..count + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = convert_bytes(bytes.clone(), TOKENIZER, WeightType::F16).unwrap_err();
    assert!(
        error.to_string().contains("4294967295 variables"),
        "{error}"
    );

    bytes[4..6].copy_from_slice(&u16::MAX.to_le_bytes());
    let error = convert_bytes(bytes, TOKENIZER, WeightType::F16).unwrap_err();
    assert!(error.to_string().contains("65535 bytes"), "{error}");
}

#[test]
fn bad_tokenizers_are_refused() {
    for (tokenizer, complaint) in [
        ("", "tokenizer:"),
        (r#"{"model": {"vocab": {"a": 0}}}"#, "no <|endoftext|>"),
        (
            r#"{"model": {"vocab": {"a": 0, "": 2, "<|endoftext|>": 3}}}"#,
            "token 1 is missing",
        ),
        (
            r#"{"model": {"vocab": {"a": 0, "b": 0, "": 1, "<|endoftext|>": 2}}}"#,
            "token 0 appears twice",
        ),
        (
            r#"{"model": {"vocab": {"日": 0, "": 1, "<|endoftext|>": 2}}}"#,
            "not in the byte-level alphabet",
        ),
        (
            r#"{"model": {"vocab": {"a": 0, "": 1, "<|endoftext|>": 4294967295}}}"#,
            "fewer than",
        ),
        (
            r#"{"model": {"vocab": {"a": 0, "b": 1, "c": 2, "d": 3, "": 4, "<|endoftext|>": 5}}}"#,
            "5 ordinary tokens and the model only 5",
        ),
    ] {
        let error = convert_bytes(Made::whisper().bytes(), tokenizer, WeightType::F16).unwrap_err();
        assert!(error.to_string().contains(complaint), "{error}");
    }
}
