//! Reads a CTranslate2 model file: an index of its variables, whose values stay on disk until
//! asked for.
//!
//! Layout, all little-endian: `u32` version, string (the specification's name), `u32` revision,
//! `u32` number of variables; then each variable: string name, `u8` rank, `u32` for each
//! dimension, `u8` element type, `u32` bytes, the values; then the aliases. A string is a `u16`
//! length and that many bytes, the last of them NUL.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use super::ConvertError;

/// The one version of the container that is written today.
const VERSION: u32 = 6;
/// Whisper large has about 1,300 variables.
const MAX_VARIABLES: u32 = 16_384;
const MAX_NAME: u16 = 512;
const MAX_RANK: u8 = 4;

/// How a variable's values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// IEEE 754 single precision.
    F32,
    /// Signed byte; a quantised weight or a flag.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// IEEE 754 half precision.
    F16,
}

impl Element {
    fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::F32),
            1 => Some(Self::I8),
            2 => Some(Self::I16),
            3 => Some(Self::I32),
            4 => Some(Self::F16),
            _ => None,
        }
    }

    /// Bytes that one value takes.
    pub(super) fn size(self) -> u64 {
        match self {
            Self::I8 => 1,
            Self::I16 | Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
        }
    }
}

/// Where a variable lies in the file, and its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    /// Sizes, slowest-varying first. Empty for a scalar.
    pub(super) dims: Vec<u32>,
    /// How the values are stored.
    pub(super) element: Element,
    /// First byte of the values, from the start of the file.
    pub(super) offset: u64,
    /// Bytes of all values.
    pub(super) bytes: u64,
}

/// An opened model file.
#[derive(Debug)]
pub(super) struct Model<R> {
    reader: R,
    variables: BTreeMap<String, Variable>,
    specification: String,
}

impl<R: Read + Seek> Model<R> {
    /// Reads the index of `reader`, from its start, and checks that every variable lies inside
    /// the file and is as long as its shape says.
    ///
    /// # Errors
    /// [`ConvertError::Malformed`] if the file is no such model, is truncated or contradicts
    /// itself.
    pub(super) fn open(mut reader: R) -> Result<Self, ConvertError> {
        let length = reader.seek(SeekFrom::End(0))?;
        reader.seek(SeekFrom::Start(0))?;
        let mut header = Header {
            inner: io::BufReader::with_capacity(512, reader),
            at: 0,
        };
        let version = header.u32()?;
        if version != VERSION {
            return malformed(format!(
                "version {version} of the container; this reads version {VERSION}"
            ));
        }
        let specification = header.string()?;
        let _revision = header.u32()?;
        let count = header.u32()?;
        if count > MAX_VARIABLES {
            return malformed(format!(
                "{count} variables; at most {MAX_VARIABLES} are believed"
            ));
        }
        let mut variables = BTreeMap::new();
        for _ in 0..count {
            let name = header.string()?;
            let variable = header.variable(&name, length)?;
            header.skip(variable.bytes)?;
            if variables.insert(name.clone(), variable).is_some() {
                return malformed(format!("variable {name} appears twice"));
            }
        }
        Ok(Self {
            reader: header.inner.into_inner(),
            variables,
            specification,
        })
    }

    /// The specification's name: `WhisperSpec` for Whisper.
    pub(super) fn specification(&self) -> &str {
        &self.specification
    }

    /// Looks a variable up.
    ///
    /// # Errors
    /// [`ConvertError::Malformed`] if there is none of this name.
    pub(super) fn variable(&self, name: &str) -> Result<&Variable, ConvertError> {
        self.variables
            .get(name)
            .ok_or_else(|| ConvertError::Malformed(format!("variable {name} is missing")))
    }

    /// Whether a variable of this name exists.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.variables.contains_key(name)
    }

    /// Fills `bytes` from `offset` of the file.
    ///
    /// # Errors
    /// [`ConvertError::Io`] if the file cannot be read that far.
    pub(super) fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), ConvertError> {
        self.reader.seek(SeekFrom::Start(offset))?;
        self.reader.read_exact(bytes)?;
        Ok(())
    }

    /// An integer scalar (`num_heads`), whichever integer type it is stored in.
    ///
    /// # Errors
    /// [`ConvertError::Malformed`] if it is missing, no scalar or no integer.
    pub(super) fn integer(&mut self, name: &str) -> Result<i32, ConvertError> {
        let variable = self.variable(name)?.clone();
        let mut bytes = [0_u8; 4];
        if !variable.dims.is_empty() {
            return malformed(format!("variable {name} is not a scalar"));
        }
        match variable.element {
            Element::I8 => {
                self.read_at(variable.offset, &mut bytes[..1])?;
                Ok(i32::from(i8::from_le_bytes([bytes[0]])))
            }
            Element::I16 => {
                self.read_at(variable.offset, &mut bytes[..2])?;
                Ok(i32::from(i16::from_le_bytes([bytes[0], bytes[1]])))
            }
            Element::I32 => {
                self.read_at(variable.offset, &mut bytes)?;
                Ok(i32::from_le_bytes(bytes))
            }
            Element::F32 | Element::F16 => malformed(format!("variable {name} is not an integer")),
        }
    }
}

/// Reads the index and counts where it is, so that values can be skipped and found again.
struct Header<R> {
    inner: io::BufReader<R>,
    at: u64,
}

impl<R: Read + Seek> Header<R> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ConvertError> {
        let mut bytes = [0_u8; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ConvertError> {
        match self.inner.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => malformed(format!(
                "the file ends in the middle of its index, after byte {}",
                self.at
            )),
            Err(error) => Err(error.into()),
        }
    }

    fn u8(&mut self) -> Result<u8, ConvertError> {
        Ok(u8::from_le_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, ConvertError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn string(&mut self) -> Result<String, ConvertError> {
        let at = self.at;
        let length = u16::from_le_bytes(self.take()?);
        if length == 0 || length > MAX_NAME {
            return malformed(format!("a name of {length} bytes at byte {at}"));
        }
        let mut bytes = vec![0_u8; usize::from(length)];
        self.fill(&mut bytes)?;
        if bytes.pop() != Some(0) {
            return malformed(format!("the name at byte {at} does not end in NUL"));
        }
        String::from_utf8(bytes)
            .or_else(|_| malformed(format!("the name at byte {at} is not UTF-8")))
    }

    fn variable(&mut self, name: &str, length: u64) -> Result<Variable, ConvertError> {
        let rank = self.u8()?;
        if rank > MAX_RANK {
            return malformed(format!("variable {name} has {rank} dimensions"));
        }
        let dims = (0..rank)
            .map(|_| self.u32())
            .collect::<Result<Vec<_>, _>>()?;
        let code = self.u8()?;
        let Some(element) = Element::from_code(code) else {
            return malformed(format!(
                "variable {name} has the unknown element type {code}"
            ));
        };
        let bytes = u64::from(self.u32()?);
        let expected = dims.iter().try_fold(element.size(), |product, &dim| {
            product.checked_mul(u64::from(dim))
        });
        if expected != Some(bytes) {
            return malformed(format!(
                "variable {name} of shape {dims:?} claims {bytes} bytes"
            ));
        }
        if self.at.saturating_add(bytes) > length {
            return malformed(format!("the file ends in the middle of variable {name}"));
        }
        Ok(Variable {
            dims,
            element,
            offset: self.at,
            bytes,
        })
    }

    fn skip(&mut self, bytes: u64) -> Result<(), ConvertError> {
        // At most u32::MAX, checked against the file's length.
        self.inner
            .seek_relative(i64::try_from(bytes).unwrap_or(i64::MAX))?;
        self.at += bytes;
        Ok(())
    }
}

fn malformed<T>(what: String) -> Result<T, ConvertError> {
    Err(ConvertError::Malformed(what))
}
