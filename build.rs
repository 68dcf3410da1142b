//! `espeak-rs-sys` links Debian's libsonic dynamically but does not say so to the linker.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bin=offhook-tts=-lsonic");
}
