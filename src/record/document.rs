//! What a call was made with.

use std::fmt;

use serde_json::{Map, Value};

/// The request that a call was made by, or what a server had said of it, in Vapi's shape: with an
/// assistant of its own, with fields of a kept one replaced.
#[derive(Clone, Default, PartialEq)]
pub struct CallDocument {
    /// Its fields, without secrets.
    pub fields: Map<String, Value>,
    /// Its secrets, encrypted by whoever made it.
    pub secrets: Option<Vec<u8>>,
}

/// The names of its fields only: the rest may be about the person called.
impl fmt::Debug for CallDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fields.keys()).finish()
    }
}
