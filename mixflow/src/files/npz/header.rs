//! What stands before the values of an `.npy` file.

use std::fmt;
use std::io::{self, Read};

/// Type of the values of an array, all little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// Bytes: images.
    U8,
    /// 32-bit integers.
    I32,
    /// 64-bit integers: labels.
    I64,
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point: statistics.
    F64,
}

impl ElementType {
    const ALL: [(Self, &'static str, usize); 5] = [
        (Self::U8, "|u1", 1),
        (Self::I32, "<i4", 4),
        (Self::I64, "<i8", 8),
        (Self::F32, "<f4", 4),
        (Self::F64, "<f8", 8),
    ];

    /// Bytes of a value.
    pub fn size(self) -> usize {
        Self::ALL[self as usize].2
    }

    /// The value whose bytes these are.
    ///
    /// # Panics
    /// If their number is not [`size`](Self::size).
    pub(super) fn value(self, bytes: &[u8]) -> f64 {
        fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
            bytes.try_into().expect("as many bytes as the kind has")
        }
        match self {
            Self::U8 => f64::from(u8::from_le_bytes(array(bytes))),
            Self::I32 => f64::from(i32::from_le_bytes(array(bytes))),
            Self::I64 => i64::from_le_bytes(array(bytes)) as f64,
            Self::F32 => f64::from(f32::from_le_bytes(array(bytes))),
            Self::F64 => f64::from_le_bytes(array(bytes)),
        }
    }
}

/// As NumPy calls it, such as `<f8`.
impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL[*self as usize].1)
    }
}

/// Type and shape of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: ElementType,
    pub(super) shape: Vec<usize>,
    /// Bytes of all values.
    pub(super) size: u64,
}

/// Longest dictionary that is read. `NumPy` itself stops at 10,000 characters.
const LONGEST: usize = 10_000;

impl Header {
    /// # Panics
    /// If the array would not fit a file.
    pub(super) fn new(kind: ElementType, shape: &[usize]) -> Self {
        let size = shape.iter().try_fold(kind.size() as u64, |size, &side| size.checked_mul(side as u64));
        Self { kind, shape: shape.into(), size: size.expect("an array that fits a file") }
    }

    /// Magic, version 1.0, and a dictionary padded so that the values start at a multiple of 64.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let sides: String = self.shape.iter().map(|side| format!("{side}, ")).collect();
        let Self { kind, .. } = self;
        let text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", sides.trim_end());
        let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((length as u16).to_le_bytes());
        bytes.extend(format!("{text:<width$}\n", width = length - 1).into_bytes());
        bytes
    }

    /// Reads magic, version and dictionary; the values follow.
    ///
    /// # Source
    /// `NumPy` enhancement proposal 1, formats 1.0 to 3.0.
    pub(super) fn read(reader: &mut impl Read) -> io::Result<Result<Self, String>> {
        let mut magic = [0; 8];
        reader.read_exact(&mut magic)?;
        if magic[..6] != *b"\x93NUMPY" {
            return Ok(Err("expected an array of NumPy, found other bytes".into()));
        }
        let mut length = [0; 4];
        match magic[6] {
            1 => reader.read_exact(&mut length[..2])?,
            2 | 3 => reader.read_exact(&mut length)?,
            other => return Ok(Err(format!("expected format 1, 2 or 3 of NumPy, found {other}"))),
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > LONGEST {
            return Ok(Err(format!("expected a header of {LONGEST} bytes or fewer, found {length}")));
        }
        let mut text = vec![0; length];
        reader.read_exact(&mut text)?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(text).map_err(|_| "expected a header of text")?.trim();
        let (descr, fortran, shape) = Dictionary(text)
            .parse()
            .ok_or_else(|| format!("expected a header of descr, fortran_order and shape, found {text:?}"))?;
        let same = |name: &str| name == descr || (descr == "<u1" && name == "|u1");
        let Some(&(kind, _, bytes)) = ElementType::ALL.iter().find(|(_, name, _)| same(name)) else {
            let known = ElementType::ALL.map(|(_, name, _)| name).join(", ");
            return Err(format!(
                "expected values of type {known}, found {descr:?}; convert them with astype, images to |u1"
            ));
        };
        if fortran && shape.iter().filter(|&&side| side != 1).count() > 1 {
            return Err("the values are in Fortran order; save numpy.ascontiguousarray of the array".into());
        }
        let size = shape.iter().try_fold(bytes as u64, |size, &side| size.checked_mul(side as u64));
        let size = size.ok_or_else(|| format!("expected an array that fits a file, found shape {shape:?}"))?;
        Ok(Self { kind, shape, size })
    }
}

/// The rest of a dictionary as Python prints it.
struct Dictionary<'a>(&'a str);

impl<'a> Dictionary<'a> {
    fn parse(mut self) -> Option<(&'a str, bool, Vec<usize>)> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect("{")?;
        while self.expect("}").is_none() {
            let key = self.quoted()?;
            self.expect(":")?;
            match key {
                "descr" => descr = Some(self.quoted()?),
                "fortran_order" => fortran = Some(self.truth()?),
                "shape" => shape = Some(self.numbers()?),
                _ => return None,
            }
            if self.expect(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        self.0.is_empty().then_some((descr?, fortran?, shape?))
    }

    fn expect(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let quote = if self.expect("'").is_some() { '\'' } else { self.expect("\"").map(|()| '"')? };
        let (text, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        Some(text)
    }

    fn truth(&mut self) -> Option<bool> {
        Some(self.expect("False").is_none() && self.expect("True").map(|()| true)?)
    }

    fn numbers(&mut self) -> Option<Vec<usize>> {
        let mut numbers = vec![];
        self.expect("(")?;
        while self.expect(")").is_none() {
            self.0 = self.0.trim_start();
            let digits = self.0.find(|c: char| !c.is_ascii_digit())?;
            numbers.push(self.0[..digits].parse().ok()?);
            self.0 = &self.0[digits..];
            if self.expect(",").is_none() {
                self.expect(")")?;
                break;
            }
        }
        Some(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_as_numpy_prints_them_are_read() {
        for (text, kind, shape) in [
            ("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }      \n", ElementType::U8, vec![2, 3]),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (2048,), }\n", ElementType::F64, vec![2048]),
            ("{\"descr\": \"<f4\",\"fortran_order\":True,\"shape\":()}", ElementType::F32, vec![]),
            ("{'shape': (1, 7, 1), 'descr': '<i8', 'fortran_order': True}", ElementType::I64, vec![1, 7, 1]),
        ] {
            let header = Header::parse(text.as_bytes()).unwrap();
            let size = (kind.size() * shape.iter().product::<usize>()) as u64;
            assert_eq!(header, Header { kind, shape, size }, "{text}");
        }
    }

    #[test]
    fn other_headers_say_why() {
        for (text, word) in [
            ("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", "astype"),
            ("{'descr': '>f8', 'fortran_order': False, 'shape': (2,), }", "astype"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", "descr, fortran_order"),
            ("{'descr': '<f8', 'fortran_order': True, 'shape': (2, 2), }", "ascontiguousarray"),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (-2,), }", "descr, fortran_order"),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,), }", "descr, fortran_order"),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", "fits a file"),
            ("{'descr': '<f8', 'fortran_order': False}", "shape"),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)} + x", "shape"),
            ("{'descr': '<f8", "shape"),
            ("", "shape"),
        ] {
            let reason = Header::parse(text.as_bytes()).unwrap_err();
            assert!(reason.contains(word), "{text}: {reason}");
        }
        let long = b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec();
        assert!(Header::read(&mut &long[..]).unwrap().unwrap_err().contains("10000"));
        assert!(Header::read(&mut &b"\x93NUMPY\x09\x00"[..]).unwrap().unwrap_err().contains("found 9"));
        assert!(Header::read(&mut &b"PK345678"[..]).unwrap().unwrap_err().contains("other bytes"));
    }
}
