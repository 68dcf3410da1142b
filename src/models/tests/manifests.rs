//! Manifests: ours, and those with a mistake.

use super::support::{manifest, sha256, source_urls};
use crate::models::ModelUse;
use crate::models::manifest::Manifest;

#[test]
fn embedded_manifest_serves_every_default() {
    let text = include_str!("../../../models/manifest.toml");
    for platform in ["linux-x86_64", "linux-aarch64"] {
        let manifest = Manifest::parse(text, platform).unwrap();
        for r#use in [
            ModelUse::Vad,
            ModelUse::Stt,
            ModelUse::Llm,
            ModelUse::Tts,
            ModelUse::Runtime,
        ] {
            let default = manifest
                .models
                .iter()
                .filter(|model| model.default && model.r#use == r#use);
            assert!(
                default.clone().count() > 0,
                "{platform}: no default for {use}"
            );
            assert!(
                default.clone().all(|model| model.size().is_some()),
                "defaults are pinned"
            );
        }
    }
    // A Piper voice is the model and its configuration, found by adding .json.
    let manifest = Manifest::parse(text, "linux-x86_64").unwrap();
    for voice in manifest
        .models
        .iter()
        .filter(|model| model.r#use == ModelUse::Tts)
    {
        assert_eq!(voice.files[1].name, format!("{}.json", voice.files[0].name));
    }
    assert!(
        Manifest::parse(text, "plan9-mips")
            .unwrap()
            .models
            .iter()
            .all(|model| model.name != "onnxruntime")
    );
}

#[test]
fn mistakes_in_a_manifest_name_entry_and_field() {
    let hash = sha256(b"x");
    let good = manifest(1, &hash, &source_urls(&["https://hub.example/x".into()]));
    assert!(Manifest::parse(&good, "linux-x86_64").is_ok());
    for (from, to, entry, field) in [
        ("name = \"ears\"\n", "", "model number 1", "`name`"),
        ("licence = \"MIT\"\n", "", "model \"ears\"", "`licence`"),
        ("use = \"stt\"", "use = \"nose\"", "model \"ears\"", "nose"),
        ("licence", "license", "model \"ears\"", "`license`"),
        (
            "name = \"ears\"",
            "name = \"../ears\"",
            "model \"../ears\"",
            "`name`",
        ),
        ("ears.bin", "a/../b", "model \"ears\"", "`file.name`"),
        ("ears.bin", "-rf", "model \"ears\"", "`file.name`"),
        ("size = 1\n", "", "model \"ears\"", "`size`"),
        ("size = 1\n", "size = 0\n", "model \"ears\"", "`size`"),
        ("size = 1\n", "size = -1\n", "model \"ears\"", "size"),
        (&hash, "ABC", "model \"ears\"", "`sha256`"),
        (&hash, "unpinned", "model \"ears\"", "`size`"),
        (
            "url = \"https://",
            "url = \"ftp://",
            "model \"ears\"",
            "`source` number 1",
        ),
        (
            "url = ",
            "packages = []\nurl = ",
            "model \"ears\"",
            "`source` number 1",
        ),
        (
            "url = \"https://hub.example/x\"",
            "packages = []",
            "model \"ears\"",
            "`packages`",
        ),
        (
            "url = \"https://hub.example/x\"",
            "convert = \"ct2-to-ggml-q8_0\"",
            "model \"ears\"",
            "`tokenizer`",
        ),
        (
            "url = \"https://hub.example/x\"",
            "convert = \"gguf-to-tea\"",
            "model \"ears\"",
            "gguf-to-tea",
        ),
        ("[[model]]", "[[modle]]\n[[model]]", "the file", "`modle`"),
    ] {
        let broken = good.replacen(from, to, 1);
        assert_ne!(broken, good, "{from}");
        let error = Manifest::parse(&broken, "linux-x86_64").unwrap_err();
        assert_eq!(error.entry, entry, "{error}");
        assert!(error.what.contains(field), "{from} -> {to}: {error}");
    }
    let twice = format!("{good}{good}");
    assert!(
        Manifest::parse(&twice, "linux-x86_64")
            .unwrap_err()
            .what
            .contains("two models")
    );
    let same_file = format!("{good}{}", good.replacen("\"ears\"", "\"ears-2\"", 1));
    assert!(
        Manifest::parse(&same_file, "linux-x86_64")
            .unwrap_err()
            .what
            .contains("two files")
    );
    assert!(
        Manifest::parse("", "linux-x86_64")
            .unwrap_err()
            .what
            .contains("[[model]]")
    );
}
