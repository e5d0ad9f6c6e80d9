//! As much of the protocol buffers' encoding as spans need (protobuf.dev, "Encoding"): tags, varints, fixed numbers, and what has a length.

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// One message. A field with its default value is left out, as proto3 has it; where a choice of fields is meant ("oneof"), each is written.
#[derive(Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        if value.is_empty() { self } else { self.chosen_bytes(field, value) }
    }

    pub(super) fn chosen_bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.tag(field, LENGTH);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn text(&mut self, field: u64, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    /// Messages are written though they are empty: that they are there may say something.
    pub(super) fn message(&mut self, field: u64, value: &Self) -> &mut Self {
        self.chosen_bytes(field, &value.0)
    }

    pub(super) fn number(&mut self, field: u64, value: u64) -> &mut Self {
        if value == 0 { self } else { self.chosen_number(field, value) }
    }

    pub(super) fn chosen_number(&mut self, field: u64, value: u64) -> &mut Self {
        self.tag(field, VARINT);
        self.varint(value);
        self
    }

    pub(super) fn fixed64(&mut self, field: u64, value: u64) -> &mut Self {
        if value != 0 {
            self.tag(field, FIXED64);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
        self
    }

    pub(super) fn fixed32(&mut self, field: u64, value: u32) -> &mut Self {
        if value != 0 {
            self.tag(field, FIXED32);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
        self
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn tag(&mut self, field: u64, kind: u64) {
        self.varint((field << 3) | kind);
    }

    /// Seven bits a byte, the lowest first; a set high bit says that more follow.
    fn varint(&mut self, mut value: u64) {
        loop {
            // Seven bits always fit.
            let low = u8::try_from(value & 0x7f).unwrap_or(0);
            value >>= 7;
            if value == 0 {
                self.0.push(low);
                return;
            }
            self.0.push(low | 0x80);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Message) -> &mut Message) -> Vec<u8> {
        let mut message = Message::default();
        write(&mut message);
        message.into_bytes()
    }

    #[test]
    fn fields_are_written_as_the_encoding_guide_has_them() {
        // The guide's own examples: 150 in field 1, "testing" in field 2, a message with the former in field 3.
        assert_eq!(written(|message| message.number(1, 150)), [0x08, 0x96, 0x01]);
        assert_eq!(written(|message| message.text(2, "testing")), [0x12, 7, b't', b'e', b's', b't', b'i', b'n', b'g']);
        let mut inner = Message::default();
        inner.number(1, 150);
        assert_eq!(written(|message| message.message(3, &inner)), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(written(|message| message.fixed32(16, 1)), [0x85, 0x01, 1, 0, 0, 0]);
        assert_eq!(written(|message| message.fixed64(7, 1)), [0x39, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(written(|message| message.chosen_number(3, u64::MAX)).len(), 11);
    }

    #[test]
    fn a_default_is_left_out_unless_it_is_chosen() {
        assert!(written(|message| message.number(1, 0).text(2, "").fixed64(3, 0).fixed32(4, 0)).is_empty());
        assert_eq!(written(|message| message.chosen_number(3, 0).chosen_bytes(1, b"")), [0x18, 0, 0x0a, 0]);
    }
}
