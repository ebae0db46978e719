//! Protocol buffers by hand: what two record formats need of them, without a compiler for their schemas.
//!
//! # Source
//! The wire format, <https://protobuf.dev/programming-guides/encoding/>: a message is a sequence of fields, each a key
//! `number << 3 | type` and a value; types 0 (varint), 1 (eight bytes), 2 (length and bytes) and 5 (four bytes).

/// A message in the making. Fields come in any order; one that repeats is added again.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// Adds an integer, a boolean or an enumeration.
    pub(super) fn varint(mut self, field: u32, value: u64) -> Self {
        self.key(field, 0);
        varint(&mut self.0, value);
        self
    }

    /// Adds a double.
    pub(super) fn double(mut self, field: u32, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds a float.
    pub(super) fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds a string, or bytes.
    pub(super) fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        self.key(field, 2);
        varint(&mut self.0, value.as_ref().len() as u64);
        self.0.extend(value.as_ref());
        self
    }

    /// Adds a message.
    pub(super) fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// Adds a list of doubles, packed.
    pub(super) fn doubles(self, field: u32, values: &[f64]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(field, bytes)
    }

    /// Adds the fields of another message.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.0.extend(&other.0);
        self
    }

    /// The message as bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn key(&mut self, field: u32, kind: u64) {
        varint(&mut self.0, u64::from(field) << 3 | kind);
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// An integer.
    Varint(u64),
    /// A string, bytes, a message or a packed list.
    Bytes(&'a [u8]),
    /// A float or double, as its bytes.
    Fixed(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The bytes, if it has some; none otherwise.
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Varint(_) | Self::Fixed(_) => &[],
        }
    }

    /// The integer, if it is one; 0 otherwise.
    pub(super) fn integer(self) -> u64 {
        match self {
            Self::Varint(value) => value,
            Self::Bytes(_) | Self::Fixed(_) => 0,
        }
    }
}

/// The fields of a message, up to its end or to what is no message.
pub(super) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u32, Value<'_>)> {
    std::iter::from_fn(move || {
        let key = read_varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Varint(read_varint(&mut bytes)?),
            1 => Value::Fixed(bytes.split_off(..8)?),
            2 => {
                let length = usize::try_from(read_varint(&mut bytes)?).ok()?;
                Value::Bytes(bytes.split_off(..length)?)
            }
            5 => Value::Fixed(bytes.split_off(..4)?),
            _ => return None,
        };
        Some((u32::try_from(key >> 3).ok()?, value))
    })
}

/// The last field of this number, which is the one that counts.
pub(super) fn field(message: &[u8], number: u32) -> Option<Value<'_>> {
    fields(message).filter(|(found, _)| *found == number).map(|(_, value)| value).last()
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_specification() {
        // The examples of the page on the wire format.
        assert_eq!(Message::default().varint(1, 150).as_bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().bytes(2, "testing").as_bytes(), b"\x12\x07testing");
        let inner = Message::default().varint(1, 150);
        assert_eq!(Message::default().message(3, &inner).as_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        // `struct.pack('<d', 1.5)`, `struct.pack('<f', 1.5)`; field 200 needs a key of two bytes.
        assert_eq!(Message::default().double(1, 1.5).as_bytes(), [0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f]);
        assert_eq!(Message::default().float(200, 1.5).as_bytes(), [0xc5, 0x0c, 0, 0, 0xc0, 0x3f]);
        assert_eq!(Message::default().doubles(6, &[1.5]).as_bytes(), [0x32, 8, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f]);
    }

    #[test]
    fn what_is_written_is_read() {
        let message = Message::default().varint(1, u64::MAX).bytes(2, "a").float(3, 0.5).double(4, 2.0).bytes(2, "b");
        let read: Vec<_> = fields(message.as_bytes()).collect();
        assert_eq!(read[0], (1, Value::Varint(u64::MAX)));
        assert_eq!(read[2..4], [(3, Value::Fixed(&[0, 0, 0, 0x3f])), (4, Value::Fixed(&2_f64.to_le_bytes()))]);
        assert_eq!(field(message.as_bytes(), 2).unwrap().bytes(), b"b");
        assert_eq!(field(message.as_bytes(), 9), None);
    }

    #[test]
    fn what_is_no_message_ends_the_fields() {
        let whole = Message::default().varint(1, 7).bytes(2, "text").double(3, 1.0);
        for length in 0..whole.as_bytes().len() {
            assert!(fields(&whole.as_bytes()[..length]).count() < 3);
        }
        for bytes in [&[0x0b][..], &[0x12, 0xff, 0xff, 0xff, 0xff, 0x7f], &[0xff; 20]] {
            assert_eq!(fields(bytes).count(), 0, "{bytes:?}");
        }
    }
}
