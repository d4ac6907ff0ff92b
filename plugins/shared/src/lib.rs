//! What the bundled plugins share: byte strings, one behind the other in one buffer, as
//! the interfaces `writer` and `stream-reader` pass them. No component by itself.

/// Byte strings, flat: `lengths` add up to the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flat {
    pub bytes: Vec<u8>,
    pub lengths: Vec<u32>,
}

impl Flat {
    /// Adds one. A message of a stream has 1 GiB at most.
    pub fn push(&mut self, item: &[u8]) {
        self.bytes.extend_from_slice(item);
        self.lengths.push(u32::try_from(item.len()).unwrap_or(u32::MAX));
    }
}

/// The byte strings that lie in `bytes`; `None` if the lengths do not add up to it.
#[must_use]
pub fn cut<'a>(bytes: &'a [u8], lengths: &[u32]) -> Option<Vec<&'a [u8]>> {
    let mut rest = bytes;
    let next = |length: &u32| {
        let (item, behind) = rest.split_at_checked(*length as usize)?;
        rest = behind;
        Some(item)
    };
    let items: Option<Vec<&[u8]>> = lengths.iter().map(next).collect();
    items.filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_together_is_cut_again() {
        let items: [&[u8]; 4] = [b"", b"one", b"", b"three"];
        let mut flat = Flat::default();
        items.iter().for_each(|item| flat.push(item));
        assert_eq!(cut(&flat.bytes, &flat.lengths).unwrap(), items);
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        for lengths in [vec![], vec![4], vec![2], vec![2, 2], vec![u32::MAX, u32::MAX]] {
            assert_eq!(cut(b"abc", &lengths), None, "{lengths:?}");
        }
    }
}
