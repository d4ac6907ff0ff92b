//! Byte strings, one behind the other in one buffer, as they go into a component and come
//! out of it. The cut by lengths is here, and nowhere else in the host.

use std::fmt;

/// Byte strings in one buffer: messages, or positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    bytes: Vec<u8>,
    /// They add up to the bytes.
    lengths: Vec<u32>,
}

/// The lengths do not add up to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncut {
    bytes: usize,
    lengths: u64,
}

impl fmt::Display for Uncut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of {} bytes, whose lengths add up to {}", self.bytes, self.lengths)
    }
}

impl Messages {
    /// What came out of a component.
    pub fn new(bytes: Vec<u8>, lengths: Vec<u32>) -> Result<Self, Uncut> {
        let sum = lengths.iter().map(|length| u64::from(*length)).sum();
        if sum != bytes.len() as u64 {
            return Err(Uncut { bytes: bytes.len(), lengths: sum });
        }
        Ok(Self { bytes, lengths })
    }

    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), lengths: Vec::new() }
    }

    pub fn add(&mut self, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.push_length(message.len());
    }

    /// Adds the message that `append` appends to the buffer.
    pub fn append<E>(&mut self, append: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let start = self.bytes.len();
        let appended = append(&mut self.bytes);
        match appended {
            Ok(()) => self.push_length(self.bytes.len().saturating_sub(start)),
            Err(_) => self.bytes.truncate(start),
        }
        appended
    }

    fn push_length(&mut self, length: usize) {
        // A message of a stream has 1 GiB at most: the publisher refuses a larger one.
        self.lengths.push(u32::try_from(length).unwrap_or(u32::MAX));
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[must_use]
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, Vec<u32>) {
        (self.bytes, self.lengths)
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        self.lengths.iter().map_while(move |length| {
            let (message, behind) = rest.split_at_checked(*length as usize)?;
            rest = behind;
            Some(message)
        })
    }
}

impl<M: AsRef<[u8]>> FromIterator<M> for Messages {
    fn from_iter<I: IntoIterator<Item = M>>(messages: I) -> Self {
        let mut all = Self::default();
        for message in messages {
            all.add(message.as_ref());
        }
        all
    }
}

/// What a stream returned: messages, and for each the position to resume after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    messages: Messages,
    positions: Messages,
}

/// One message of a stream and where to resume after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub position: &'a [u8],
    pub message: &'a [u8],
}

impl Entries {
    /// `None` unless there are as many positions as messages.
    #[must_use]
    pub fn new(messages: Messages, positions: Messages) -> Option<Self> {
        (messages.len() == positions.len()).then_some(Self { messages, positions })
    }

    pub fn add(&mut self, position: &[u8], message: &[u8]) {
        self.positions.add(position);
        self.messages.add(message);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.positions.iter().zip(self.messages.iter()).map(|(position, message)| Entry { position, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_together_is_cut_again() {
        let parts: [&[u8]; 4] = [b"", b"one", b"", b"three"];
        let messages: Messages = parts.iter().collect();
        assert_eq!(messages.iter().collect::<Vec<_>>(), parts);
        let (bytes, lengths) = messages.clone().into_parts();
        assert_eq!(Messages::new(bytes, lengths), Ok(messages));
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        for lengths in [vec![], vec![4], vec![2], vec![2, 2], vec![u32::MAX, u32::MAX]] {
            let uncut = Messages::new(b"abc".to_vec(), lengths.clone()).unwrap_err();
            assert!(uncut.to_string().starts_with("of 3 bytes, whose lengths add up to "), "{lengths:?}: {uncut}");
        }
        assert!(Entries::new(["a"].iter().collect(), Messages::default()).is_none());
    }
}
