//! Protobuf's wire format: <https://protobuf.dev/programming-guides/encoding/>.
//!
//! Written here, beside prost, for the messages that travel by the million: see
//! [`crate::batch::publisher`] and [`crate::codec`].

/// Bytes that `value` takes as a varint: 1 to 10.
pub(crate) fn varint_len(value: u64) -> usize {
    // One byte for every seven bits, at least one: (bits * 9 + 73) / 64 is that without a division.
    let top_bit = 63 - (value | 1).leading_zeros() as usize;
    (top_bit * 9 + 73) / 64
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that a length-delimited field of `length` bytes takes, with a tag of one byte.
pub(crate) fn delimited_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

/// Tag and length of a length-delimited field whose number is below 16.
pub(crate) fn put_delimiter(out: &mut Vec<u8>, number: u8, length: usize) {
    out.push(number << 3 | 2);
    put_varint(out, length as u64);
}

pub(crate) fn put_delimited(out: &mut Vec<u8>, number: u8, content: &[u8]) {
    put_delimiter(out, number, content.len());
    out.extend_from_slice(content);
}

/// A varint field whose number is below 16.
pub(crate) fn put_varint_field(out: &mut Vec<u8>, number: u8, value: u64) {
    out.push(number << 3);
    put_varint(out, value);
}

/// Why bytes are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The bytes end inside a field.
    Truncated,
    /// A varint of more than 64 bits.
    Varint,
    /// A field number of 0, or a wire type that does not exist.
    Tag,
    /// A group that ends without a beginning, or the other way around, or nests too deep.
    Group,
}

/// One field's content, by wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Delimited(&'a [u8]),
    /// Of no message here; what was in it is passed over.
    Group,
}

/// The fields of one message, in the order of its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

/// Groups inside groups, as deep as prost follows messages.
const GROUP_DEPTH_MAX: u32 = 100;

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Most fields have a tag of one byte and a value or length of one byte.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, Malformed> {
        if let [tag @ 8..0x80, small @ ..0x80, rest @ ..] = self.rest {
            let number = u32::from(*tag >> 3);
            if *tag & 7 == 2
                && let Some((content, rest)) = rest.split_at_checked(usize::from(*small))
            {
                self.rest = rest;
                return Ok(Some((number, Field::Delimited(content))));
            }
            if *tag & 7 == 0 {
                self.rest = rest;
                return Ok(Some((number, Field::Varint(u64::from(*small)))));
            }
        } else if self.rest.is_empty() {
            return Ok(None);
        }
        self.next_of_any()
    }

    fn next_of_any(&mut self) -> Result<Option<(u32, Field<'a>)>, Malformed> {
        let (number, wire_type) = self.tag()?;
        let field = match wire_type {
            3 => {
                self.skip_group(number)?;
                Field::Group
            }
            4 => return Err(Malformed::Group),
            _ => self.content(wire_type)?,
        };
        Ok(Some((number, field)))
    }

    fn tag(&mut self) -> Result<(u32, u8), Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed::Tag)?;
        if tag >> 3 == 0 {
            return Err(Malformed::Tag);
        }
        Ok((tag >> 3, (tag & 7) as u8))
    }

    fn content(&mut self, wire_type: u8) -> Result<Field<'a>, Malformed> {
        Ok(match wire_type {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Truncated)?;
                Field::Delimited(self.take(length)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(Malformed::Tag),
        })
    }

    fn skip_group(&mut self, number: u32) -> Result<(), Malformed> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            match self.tag()? {
                (inner, 3) if open.len() < GROUP_DEPTH_MAX as usize => open.push(inner),
                (ended, 4) if ended == innermost => drop(open.pop()),
                (_, 3 | 4) => return Err(Malformed::Group),
                (_, wire_type) => drop(self.content(wire_type)?),
            }
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let (value, rest) = varint(self.rest)?;
        self.rest = rest;
        Ok(value)
    }
}

/// The varint at the beginning of `bytes`, and what follows it.
pub(crate) fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    if let [first, rest @ ..] = bytes
        && *first < 0x80
    {
        return Ok((u64::from(*first), rest));
    }
    let (mut value, mut shift, mut rest) = (0, 0, bytes);
    while let Some((byte, after)) = rest.split_first() {
        if shift == 63 && *byte > 1 {
            return Err(Malformed::Varint);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Ok((value, after));
        }
        shift += 7;
        rest = after;
    }
    Err(Malformed::Truncated)
}
