//! One slot in hexadecimal, beside the names that `LAYOUT.md` has for its parts.

use ringway_broker::holdings::HeldPartition;
use ringway_shm_protocol::attributes::flag;
use ringway_shm_protocol::layout::slot;
use ringway_shm_protocol::view::{HEADER_PARTS, RawSlot, SLOT_FIELDS, SLOT_WORD_PARTS, WordPart, part_of};
use ringway_shm_protocol::words::{MessageHeader, SlotWord};
use serde_json::{Map, Value, json};

use crate::exit::{Exit, Failure};
use crate::output::{print, print_json, thousands};

/// Bytes of a body on one line.
const LINE_BYTES: usize = 16;

/// The flags by the names of `LAYOUT.md`.
const FLAGS: [(&str, u16); 9] = [
    ("TIMESTAMP", flag::TIMESTAMP),
    ("KEY", flag::KEY),
    ("CORRELATION", flag::CORRELATION),
    ("REPLY_TO", flag::REPLY_TO),
    ("MAP", flag::MAP),
    ("SYNCED", flag::SYNCED),
    ("PRODUCER", flag::PRODUCER),
    ("ATTRIBUTES_IN_ARENA", MessageHeader::ATTRIBUTES_IN_ARENA),
    ("PAYLOAD_IN_ARENA", MessageHeader::PAYLOAD_IN_ARENA),
];

/// Shows the slot of a position that the ring has.
pub(super) fn show(held: &HeldPartition, position: u64, json: bool) -> Result<(), Failure> {
    let outline = &held.outline;
    let place = format!("stream {}, partition {}", outline.partition.stream, outline.partition.number);
    let Some(ring) = &held.ring else {
        let message = format!("{place} has no memory yet: it was never opened");
        return Err(Failure::with(Exit::NotFound, message));
    };
    let (geometry, end) = (ring.view.identity().geometry, ring.view.end());
    let first = end.saturating_sub(geometry.capacity());
    if !(first..end).contains(&position) {
        let there = match end {
            0 => "it has no message yet".to_owned(),
            _ => format!("its slots have {first} to {}", end - 1),
        };
        let message = format!("{place} has no slot for position {position}: {there}");
        return Err(Failure::with(Exit::Usage, message));
    }
    let raw = ring.view.raw(position);
    if json {
        return print_json(&value(position, geometry.index(position), &raw));
    }
    let mut text = format!(
        "{place}, position {position}: slot {} of {}\n",
        thousands(geometry.index(position)),
        thousands(geometry.capacity())
    );
    if !raw.is_steady {
        text += "it was written anew while it was copied: what follows is of two messages\n";
    }
    for (name, offset) in SLOT_FIELDS {
        text += &match name {
            "BODY" => body_text(name, &raw),
            _ => word_text(name, offset, &raw),
        };
    }
    print(&text)
}

fn parts(offset: usize) -> [WordPart; 3] {
    if offset == slot::WORD { SLOT_WORD_PARTS } else { HEADER_PARTS }
}

/// What a part of a word means, where a number does not say it.
fn meaning(name: &str, word: u64, value: u64) -> String {
    match name {
        "state" => format!(" {:?}", SlotWord::unpack(word).state),
        "flags" => {
            let set = FLAGS.iter().filter(|(_, flag)| value & u64::from(*flag) != 0).map(|(name, _)| *name);
            set.fold(String::new(), |text, name| text + " " + name)
        }
        _ => String::new(),
    }
}

fn word_text(name: &str, offset: usize, raw: &RawSlot) -> String {
    let word = raw.word(offset);
    let parts = parts(offset).map(|part| {
        let value = part_of(word, part);
        format!("{} {value}{}", part.0, meaning(part.0, word, value))
    });
    format!("{name:<6}  {offset:>4}  {word:#018x}  {}\n", parts.join(", "))
}

fn body_text(name: &str, raw: &RawSlot) -> String {
    let body = &raw.bytes[slot::BODY..];
    let line = |(index, bytes): (usize, &[u8])| {
        let at = slot::BODY + index * LINE_BYTES;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
        let shown =
            |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let shown: String = bytes.iter().map(shown).collect();
        let name = if index == 0 { name } else { "" };
        format!("{name:<6}  {at:>4}  {hex:<48} {shown}\n")
    };
    body.chunks(LINE_BYTES).enumerate().map(line).collect()
}

fn value(position: u64, index: u64, raw: &RawSlot) -> Value {
    let mut object = Map::new();
    object.insert("position".to_owned(), position.into());
    object.insert("slot".to_owned(), index.into());
    object.insert("steady".to_owned(), raw.is_steady.into());
    for (name, offset) in SLOT_FIELDS {
        let field = match name {
            "BODY" => {
                raw.bytes[slot::BODY..].iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
            }
            _ => {
                let word = raw.word(offset);
                let mut field = Map::new();
                field.insert("word".to_owned(), format!("{word:#018x}").into());
                for part in parts(offset) {
                    field.insert(part.0.to_owned(), part_of(word, part).into());
                }
                json!(field)
            }
        };
        object.insert(name.to_owned(), field);
    }
    json!(object)
}
