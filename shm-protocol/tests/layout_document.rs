//! Holds `LAYOUT.md` and the code together: every row of its tables is in the code, and every constant of the
//! code is in a table. And real regions carry their bytes where the document says.

// What tests call may unwrap as tests may; the lint knows only functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;

use ringway_shm_protocol::attributes::{AttributeMap, Attributes, flag};
use ringway_shm_protocol::control::message::Durability;
use ringway_shm_protocol::layout::{self, Geometry, GeometryRecord, RegionHeader, RegionKind};
use ringway_shm_protocol::memory::mapped::{Access, FEATURES_KNOWN, Identity, Mapped, OwnedRegion};
use ringway_shm_protocol::ring::shard::{ShardRing, Start};
use ringway_shm_protocol::ring::{
    ArenaBlock, Claims, Feed, FeedRecord, Gates, Hazards, Outgoing, Part, Room, Settlement, SettlementWords,
    Settlements, SharedProducer, Verdict,
};
use ringway_shm_protocol::view;
use ringway_shm_protocol::words::{self, *};

const DOCUMENT: &str = include_str!("../LAYOUT.md");
const LAYOUT_SOURCE: &str = include_str!("../src/layout.rs");
const WORDS_SOURCE: &str = include_str!("../src/words.rs");

/// The first three cells of a row; numbers as the document writes them.
type Row = [String; 3];

/// The rows of the table whose first cells are `head`, below the first line that begins with `after`.
fn table(after: &str, head: &str) -> Vec<Row> {
    let start = DOCUMENT.find(&format!("\n{after}")).unwrap_or_else(|| panic!("no line {after:?}"));
    let mut lines = DOCUMENT[start..].lines().skip_while(|line| !line.starts_with(head));
    assert!(lines.next().is_some(), "no table {head:?} below {after:?}");
    let cells = |line: &str| {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        [(); 3].map(|()| cells.next().unwrap_or_default())
    };
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn number(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).unwrap(),
        None => text.parse().unwrap_or_else(|_| panic!("{text:?} is no number")),
    }
}

/// name → (offset, bytes) of a table of offsets.
fn offsets(after: &str) -> BTreeMap<String, (usize, usize)> {
    let rows = table(after, "| offset | bytes | name |");
    let count = rows.len();
    let map: BTreeMap<_, _> = rows
        .into_iter()
        .map(|[at, bytes, name]| (name, (number(&at) as usize, number(&bytes) as usize)))
        .collect();
    assert_eq!(map.len(), count, "a name occurs twice below {after:?}");
    map
}

/// The names behind `pub const` in `source` at this indentation.
fn constants<'a>(source: &'a str, indentation: &str) -> BTreeSet<&'a str> {
    let prefix = format!("{indentation}pub const ");
    source
        .lines()
        .filter_map(|line| line.strip_prefix(prefix.as_str())?.split_once(':').map(|(name, _)| name))
        .filter(|name| !name.contains('('))
        .collect()
}

/// The text of `module` or `struct` in `source`.
fn block<'a>(source: &'a str, opening: &str) -> &'a str {
    let start = source.find(opening).unwrap_or_else(|| panic!("no {opening:?}"));
    let text = &source[start..];
    &text[..text.find("\n}").expect("blocks end at the margin")]
}

fn expect_offsets(after: &str, code: &[(&str, usize, usize)]) {
    let code: BTreeMap<_, _> = code.iter().map(|&(name, at, bytes)| (name.to_owned(), (at, bytes))).collect();
    assert_eq!(offsets(after), code, "LAYOUT.md (left) and the code differ below {after:?}");
}

/// The same, for a module of offsets: the header is in every region and in no module; all else is in both.
fn expect_module(after: &str, module: &str, code: &[(&str, usize, usize)]) {
    let mut expected: BTreeSet<&str> = code.iter().map(|(name, ..)| *name).collect();
    if module != "slot" {
        expected.remove("HEADER");
    }
    let found = constants(block(LAYOUT_SOURCE, &format!("pub mod {module} {{")), "    ");
    assert_eq!(found, expected, "module {module} of layout.rs (left) has other constants than this test");
    expect_offsets(after, code);
}

#[test]
fn every_constant_of_the_code_is_in_the_document_and_the_other_way_round() {
    macro_rules! values {
        ($($name:ident = $path:path),* $(,)?) => { [$((stringify!($name), $path as u64)),*] };
    }
    let code = values! {
        MAGIC = layout::MAGIC, LAYOUT_VERSION = layout::LAYOUT_VERSION, FEATURES_KNOWN = FEATURES_KNOWN,
        LINE_PAIR_BYTES = layout::LINE_PAIR_BYTES, PAGE_BYTES = layout::PAGE_BYTES,
        GATES_MAX = layout::GATES_MAX, PARTITIONS_MAX = layout::PARTITIONS_MAX, CAPACITY_MIN = layout::CAPACITY_MIN,
        CAPACITY_MAX = layout::CAPACITY_MAX, CAPACITY_DEFAULT = layout::CAPACITY_DEFAULT,
        SLOT_BYTES_MIN = layout::SLOT_BYTES_MIN, SLOT_BYTES_MAX = layout::SLOT_BYTES_MAX,
        SLOT_BYTES_DEFAULT = layout::SLOT_BYTES_DEFAULT, RING_BYTES_MAX = layout::RING_BYTES_MAX,
        FEED_CAPACITY_MAX = layout::FEED_CAPACITY_MAX, FEED_RECORD_WORDS = layout::FEED_RECORD_WORDS,
        SETTLEMENTS = layout::SETTLEMENTS, SETTLEMENT_WORDS = layout::SETTLEMENT_WORDS,
        MEMBER_BITS = words::MEMBER_BITS,
        HAZARDS_MAX = layout::HAZARDS_MAX, PART_ALIGN_BYTES = layout::PART_ALIGN_BYTES,
        ARENA_REFERENCE_BYTES = layout::ARENA_REFERENCE_BYTES, BLOCK_ALIGN_BYTES = layout::BLOCK_ALIGN_BYTES,
        ARENA_BYTES_MAX = layout::ARENA_BYTES_MAX,
        POSITION_BITS = words::POSITION_BITS, LAP_BITS = words::LAP_BITS, OWNER_BITS = words::OWNER_BITS,
        EPOCH_BITS = words::EPOCH_BITS, GENERATION_BITS = words::GENERATION_BITS,
    };
    let mut sources = constants(LAYOUT_SOURCE, "");
    sources.extend(constants(WORDS_SOURCE, ""));
    sources.insert("FEATURES_KNOWN");
    assert_eq!(sources, code.iter().map(|(name, _)| *name).collect(), "the sources have other constants");
    let document: BTreeMap<String, u64> = table("## Constants", "| constant | value |")
        .into_iter()
        .map(|[name, value, _]| (name, number(&value)))
        .collect();
    let code: BTreeMap<String, u64> = code.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(document, code, "LAYOUT.md (left) and the code differ");
}

#[test]
fn every_offset_of_the_code_is_in_the_document_and_the_other_way_round() {
    use layout::{arena, claims, doorbell, feed, member, meta, page, producers, slot, slots, subscription};
    let header = ("HEADER", 0, size_of::<RegionHeader>());
    let (geometry, gates) = (size_of::<GeometryRecord>(), layout::GATES_MAX * 8);
    expect_module(
        "### Meta",
        "meta",
        &[
            header,
            ("GEOMETRY", meta::GEOMETRY, geometry),
            ("GATES_ACTIVE", meta::GATES_ACTIVE, 8),
            ("SHARD_ARENAS_MADE", meta::SHARD_ARENAS_MADE, 8),
            ("WRITTEN", meta::WRITTEN, 8),
            ("SYNCED", meta::SYNCED, 8),
            ("JOURNAL_STATE", meta::JOURNAL_STATE, 8),
            ("GATES", meta::GATES, gates),
            ("BYTES", meta::BYTES, 0),
        ],
    );
    expect_module(
        "### Producers",
        "producers",
        &[
            header,
            ("LIMIT", producers::LIMIT, 8),
            ("TAIL", producers::TAIL, 8),
            ("BYTES", producers::BYTES, 0),
        ],
    );
    expect_module("### Slots", "slots", &[header, ("FIRST", slots::FIRST, 0)]);
    expect_module(
        "The region's size is FIRST",
        "slot",
        &[("WORD", slot::WORD, 8), ("HEADER", slot::HEADER, 8), ("BODY", slot::BODY, 0)],
    );
    expect_module(
        "### Doorbell",
        "doorbell",
        &[
            header,
            ("DATA_ANNOUNCE", doorbell::DATA_ANNOUNCE, 8),
            ("DATA_BELL", doorbell::DATA_BELL, 4),
            ("SPACE_ANNOUNCE", doorbell::SPACE_ANNOUNCE, 8),
            ("SPACE_BELL", doorbell::SPACE_BELL, 4),
            ("CONFIRM_ANNOUNCE", doorbell::CONFIRM_ANNOUNCE, 8),
            ("CONFIRM_BELL", doorbell::CONFIRM_BELL, 4),
            ("JOURNAL_ANNOUNCE", doorbell::JOURNAL_ANNOUNCE, 8),
            ("JOURNAL_BELL", doorbell::JOURNAL_BELL, 4),
            ("BYTES", doorbell::BYTES, 0),
        ],
    );
    expect_module(
        "### Subscription",
        "subscription",
        &[
            header,
            ("CURSOR", subscription::CURSOR, 8),
            ("HAZARDS_ACTIVE", subscription::HAZARDS_ACTIVE, 8),
            ("HAZARDS", subscription::HAZARDS, layout::HAZARDS_MAX * 8),
            ("WATCH", subscription::WATCH, 8),
            ("ACTIVE", subscription::ACTIVE, 8),
            ("REFILL", subscription::REFILL, 8),
            ("ROUND_BEGUN", subscription::ROUND_BEGUN, 8),
            ("ROUND_DONE", subscription::ROUND_DONE, 8),
            ("BYTES", subscription::BYTES, 0),
        ],
    );
    expect_module("### Claims", "claims", &[header, ("FIRST", claims::FIRST, 0)]);
    expect_module("### Feed", "feed", &[header, ("FIRST", feed::FIRST, 0)]);
    expect_module(
        "### Member",
        "member",
        &[
            header,
            ("CALLED", member::CALLED, 8),
            ("WRITTEN", member::WRITTEN, 8),
            ("JUDGED", member::JUDGED, 8),
            ("LATE", member::LATE, 8),
            ("FIRST", member::FIRST, 0),
            ("BYTES", member::BYTES, 0),
        ],
    );
    expect_module("### Arena", "arena", &[header, ("FIRST", arena::FIRST, 0)]);
    expect_module("### Page", "page", &[header, ("FIRST", page::FIRST, 0)]);
}

#[test]
fn every_flag_of_the_header_has_its_bit() {
    let document: BTreeMap<String, u64> = table("The body: first the references", "| flag | bit |")
        .into_iter()
        .map(|[name, bit, _]| (name, number(&bit)))
        .collect();
    let code = [
        ("PAYLOAD_IN_ARENA", MessageHeader::PAYLOAD_IN_ARENA),
        ("ATTRIBUTES_IN_ARENA", MessageHeader::ATTRIBUTES_IN_ARENA),
    ];
    let code = code.map(|(name, flag)| (name.to_owned(), u64::from(flag.trailing_zeros())));
    assert_eq!(document, BTreeMap::from(code), "LAYOUT.md (left) and words.rs differ");
}

#[test]
fn attributes_stand_at_the_documented_bytes() {
    let mut map = AttributeMap::new();
    map.insert("b", true).unwrap();
    map.insert("i", -2_i64).unwrap();
    map.insert("f", 1.5).unwrap();
    map.insert("t", "xy").unwrap();
    map.insert("r", &b"\xff"[..]).unwrap();
    let attributes = Attributes::new()
        .timestamp_ns(0x0102)
        .key(b"key")
        .correlation(b"c")
        .reply_to("r")
        .map(&map)
        .durability(Durability::Synced)
        .sequence(3)
        .producer(4);
    let mut section = Vec::new();
    let flags = attributes.encode(&mut section).unwrap();
    let code = [
        ("PRODUCER", flag::PRODUCER),
        ("TIMESTAMP", flag::TIMESTAMP),
        ("KEY", flag::KEY),
        ("CORRELATION", flag::CORRELATION),
        ("REPLY_TO", flag::REPLY_TO),
        ("MAP", flag::MAP),
        ("SYNCED", flag::SYNCED),
    ];
    let document: Vec<_> = table("### Attributes", "| flag | bit | part |")
        .into_iter()
        .map(|[name, bit, _]| (name, 1 << number(&bit)))
        .collect();
    assert_eq!(document, code.map(|(name, bit)| (name.to_owned(), bit)));
    assert_eq!((flags, flag::ALL), (0x7f, 0x7f));
    let types = table("An entry: u8", "| type | value |");
    let types: Vec<_> = types
        .iter()
        .map(|[number, value, _]| format!("{number} {}", value.split(':').next().unwrap()))
        .collect();
    assert_eq!(types, ["0 truth", "1 integer", "2 float", "3 text", "4 bytes"]);
    let documented = [
        &[3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0][..],
        &[2, 1, 0, 0, 0, 0, 0, 0],
        b"\x03\0key",
        b"\x01\0c",
        b"\x01\0r",
        b"\x01b\x00\x01",
        b"\x01i\x01\xfe\xff\xff\xff\xff\xff\xff\xff",
        b"\x01f\x02\0\0\0\0\0\0\xf8\x3f",
        b"\x01t\x03\x02\0xy",
        b"\x01r\x04\x01\0\xff",
    ];
    assert_eq!(section, documented.concat());
}

#[test]
fn every_field_of_the_records_is_in_the_document_and_the_other_way_round() {
    macro_rules! fields {
        ($record:ident: $($field:ident $bytes:literal),*) => {{
            let source = block(LAYOUT_SOURCE, concat!("pub struct ", stringify!($record), " {"));
            assert_eq!(source.matches("\n    pub ").count(), [$($bytes),*].len(), "fields in layout.rs");
            [$((stringify!($field), offset_of!($record, $field), $bytes)),*]
        }};
    }
    let header = fields!(RegionHeader: magic 8, version 4, kind 4, incarnation 8, features_required 8,
        features_optional 8, bytes 8, reserved 16);
    assert_eq!(header.iter().map(|(.., bytes)| bytes).sum::<usize>(), size_of::<RegionHeader>());
    expect_offsets("### Header", &header);
    let geometry = fields!(GeometryRecord: capacity 8, slot_bytes 4, partition 4);
    assert_eq!(geometry.iter().map(|(.., bytes)| bytes).sum::<usize>(), size_of::<GeometryRecord>());
    expect_offsets("The geometry:", &geometry);
}

#[test]
fn every_kind_and_state_has_its_number() {
    use RegionKind::{Arena, Claims, Doorbell, Feed, Member, Meta, Page, Producers, Slots, Subscription};
    let kinds: Vec<_> = table("## Region kinds", "| kind | region |")
        .into_iter()
        .map(|[kind, region, _]| (number(&kind), region))
        .collect();
    let code = [Meta, Producers, Slots, Doorbell, Subscription, Arena, Claims, Feed, Member, Page];
    assert_eq!(kinds, code.map(|kind| (kind as u64, format!("{kind:?}"))));
    let enumerated = block(LAYOUT_SOURCE, "pub enum RegionKind {").matches(" = ").count();
    assert_eq!(enumerated, code.len(), "kinds in layout.rs");

    let states: Vec<_> = table("States of a slot:", "| state | name |")
        .into_iter()
        .map(|[state, name, _]| (number(&state), name))
        .collect();
    let code = [0, 1, 2, 3].map(|state| (state, format!("{:?}", SlotWord::unpack(state << 22).state)));
    assert_eq!(states, code);

    let states: Vec<_> = table("States of a claim:", "| state | name |")
        .into_iter()
        .map(|[state, name, _]| (number(&state), name))
        .collect();
    let code =
        [0, 1, 2, 3, 4].map(|state| (state, format!("{:?}", ClaimWord::unpack(state << MEMBER_BITS).state)));
    assert_eq!(states, code);
}

#[test]
fn a_slot_is_shown_by_the_names_of_the_document() {
    let fields = offsets("The region's size is FIRST");
    let shown = view::SLOT_FIELDS.map(|(name, at)| (name.to_owned(), at));
    assert_eq!(
        fields.into_iter().map(|(name, (at, _))| (name, at)).collect::<BTreeMap<_, _>>(),
        shown.into()
    );
    for (word, parts) in [("slot", view::SLOT_WORD_PARTS), ("header", view::HEADER_PARTS)] {
        let start = DOCUMENT.find("## Words").unwrap();
        let rows = DOCUMENT[start..].lines().filter(|line| line.starts_with(&format!("| {word} |")));
        let shown = parts.map(|(part, high, low)| format!("| {word} | {part} | {high} | {low} |"));
        assert!(rows.eq(shown.iter().map(String::as_str)), "{shown:?}");
        let whole = parts.iter().fold(0, |whole, part| whole | view::part_of(u64::MAX, *part) << part.2);
        assert_eq!(whole, u64::MAX, "every bit of {word} has a name");
    }
}

#[test]
fn every_part_of_a_word_has_its_bits() {
    let start = DOCUMENT.find("## Words").unwrap();
    let text = &DOCUMENT[start..];
    let mut document = BTreeMap::new();
    for line in text.lines().skip_while(|line| !line.starts_with("| word |")).skip(2) {
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else { break };
        let cells: Vec<_> = cells.split(" | ").collect();
        let [word, part, high, low] = cells[..] else { panic!("{line}") };
        let (high, low) = (number(high) as u32, number(low) as u32);
        document.insert((word, part), (u64::MAX >> (63 - high)) & (u64::MAX << low));
    }
    let slot = SlotWord { lap: 0, state: SlotState::Empty, owner: 0 };
    let (limit, gate) = (LimitWord { position: 0, epoch: 0 }, GateWord { position: 0, generation: 0 });
    let cursor = CursorWord { position: 0, pinned: false, live: false, generation: 0 };
    let claim = ClaimWord { lap: 0, state: ClaimState::Free, member: 0 };
    let header = MessageHeader::default();
    let position = (1 << POSITION_BITS) - 1;
    let code = [
        (("slot", "lap"), SlotWord { lap: (1 << LAP_BITS) - 1, ..slot }.pack()),
        (("slot", "state"), SlotWord { state: SlotState::Tombstone, ..slot }.pack()),
        (("slot", "owner"), SlotWord { owner: (1 << OWNER_BITS) - 1, ..slot }.pack()),
        (("limit", "position"), LimitWord { position, ..limit }.pack()),
        (("limit", "epoch"), LimitWord { epoch: (1 << EPOCH_BITS) - 1, ..limit }.pack()),
        (("gate", "position"), GateWord { position, ..gate }.pack()),
        (("gate", "generation"), GateWord { generation: (1 << EPOCH_BITS) - 1, ..gate }.pack()),
        (("cursor", "position"), CursorWord { position, ..cursor }.pack()),
        (("cursor", "pinned"), CursorWord { pinned: true, ..cursor }.pack()),
        (("cursor", "live"), CursorWord { live: true, ..cursor }.pack()),
        (("cursor", "generation"), CursorWord { generation: (1 << GENERATION_BITS) - 1, ..cursor }.pack()),
        (("claim", "lap"), ClaimWord { lap: (1 << LAP_BITS) - 1, ..claim }.pack()),
        // States need three bits; the last is the fourth.
        (
            ("claim", "state"),
            ClaimWord { state: ClaimState::Moved, ..claim }.pack()
                | ClaimWord { state: ClaimState::Moving, ..claim }.pack(),
        ),
        (("claim", "member"), ClaimWord { member: (1 << MEMBER_BITS) - 1, ..claim }.pack()),
        (("header", "flags"), MessageHeader { flags: u16::MAX, ..header }.pack()),
        (("header", "attributes_bytes"), MessageHeader { attributes_bytes: u16::MAX, ..header }.pack()),
        (("header", "payload_bytes"), MessageHeader { payload_bytes: u32::MAX, ..header }.pack()),
    ];
    assert_eq!(document, BTreeMap::from(code), "LAYOUT.md (left) and words.rs differ");
}

/// Bytes of the region at an offset that the document gives.
fn raw<const BYTES: usize>(region: &OwnedRegion, offset: usize) -> [u8; BYTES] {
    let descriptor = region.hand_over(Access::Read).unwrap();
    let mut bytes = [0; BYTES];
    assert_eq!(rustix::io::pread(descriptor, &mut bytes, offset as u64).unwrap(), BYTES);
    bytes
}

#[test]
fn a_published_message_stands_at_the_documented_bytes() {
    let incarnation = 0x1122_3344_5566_7788;
    let geometry = Geometry::new(4, 64).unwrap();
    let make = |kind, bytes| OwnedRegion::create(Identity { kind, incarnation, bytes }).unwrap();
    let meta = make(RegionKind::Meta, layout::meta::BYTES);
    let producers = make(RegionKind::Producers, layout::producers::BYTES);
    let slots = make(RegionKind::Slots, geometry.slots_region_bytes());
    let subscription = make(RegionKind::Subscription, layout::subscription::BYTES);
    meta.record_geometry(geometry, 9).unwrap();
    let active = || meta.region().word(layout::meta::GATES_ACTIVE);
    let mirrors =
        || (0..2).map(|gate| meta.region().word(layout::meta::GATES + 8 * gate)).collect::<Vec<_>>();
    let limit = || producers.region().word(layout::producers::LIMIT);
    let cursor = subscription.region().word(layout::subscription::CURSOR);
    let shard = ShardRing::<Mapped>::new(slots.region().slots(geometry), limit(), active(), mirrors());
    let gates = Gates::<Mapped>::new(active(), mirrors());
    let room = Room::retaining(geometry, limit(), gates);
    let tail = producers.region().word(layout::producers::TAIL);
    let mut producer =
        SharedProducer::<Mapped>::new(slots.region().slots(geometry), room, tail, 0x2a_bcde, 0);
    for text in ["zero", "one", "two", "three", "four", "hello, ringway"] {
        producer.publish(&Outgoing::inline(text.as_bytes())).unwrap();
    }
    assert_eq!(shard.join(1, 5, &cursor, Start::First), 2);

    let word = |region: &OwnedRegion, offset| u64::from_le_bytes(raw(region, offset));
    let header = offsets("### Header");
    assert_eq!(&raw::<8>(&slots, header["magic"].0), b"RINGWAY1");
    assert_eq!(u32::from_le_bytes(raw(&slots, header["version"].0)), 1);
    assert_eq!(u32::from_le_bytes(raw(&slots, header["kind"].0)), 3);
    assert_eq!(word(&slots, header["incarnation"].0), incarnation);
    assert_eq!(word(&slots, header["bytes"].0), 8192);
    let (record, at) = (offsets("The geometry:"), offsets("### Meta"));
    assert_eq!(word(&meta, at["GEOMETRY"].0 + record["capacity"].0), 4);
    assert_eq!(u32::from_le_bytes(raw(&meta, at["GEOMETRY"].0 + record["slot_bytes"].0)), 64);
    assert_eq!(u32::from_le_bytes(raw(&meta, at["GEOMETRY"].0 + record["partition"].0)), 9);
    assert_eq!(word(&meta, at["GATES_ACTIVE"].0), 0b10);
    assert_eq!(word(&meta, at["GATES"].0 + 8), 2 << 14 | 5);
    assert_eq!(word(&producers, offsets("### Producers")["LIMIT"].0), 6 << 14 | 1);
    assert_eq!(word(&subscription, offsets("### Subscription")["CURSOR"].0), 2 << 14 | 1 << 12);
    // Position 5 of 4 slots: lap 2, slot 1.
    let slot = offsets("### Slots")["FIRST"].0 + 64;
    let inside = offsets("The region's size is FIRST");
    assert_eq!(word(&slots, slot + inside["WORD"].0), 2 << 24 | 2 << 22 | 0x2a_bcde);
    assert_eq!(word(&slots, slot + inside["HEADER"].0), 14);
    assert_eq!(&raw::<14>(&slots, slot + inside["BODY"].0), b"hello, ringway");

    // Position 6: lap 2, slot 2. Its payload is in an arena, its attributes are not.
    let block = ArenaBlock { arena: 0xa1a2_a3a4, offset: 0x0102_0304_0506, bytes: 0x1_0001 };
    let (attributes, payload) = (Part::Inline(b"attributes of 25 bytes..."), Part::Arena(block));
    // The gate that has joined stands at 2: it lets position 5 pass, and not 6.
    cursor.store(3 << 14 | 1 << 12, std::sync::atomic::Ordering::Release);
    let mut gates = Gates::<Mapped>::new(active(), mirrors());
    let hazards = Hazards::new(subscription.region().word(layout::subscription::HAZARDS_ACTIVE), Vec::new());
    gates.map(1, 5, subscription.region().word(layout::subscription::CURSOR), hazards);
    let room = Room::retaining(geometry, limit(), gates);
    let tail = producers.region().word(layout::producers::TAIL);
    let mut producer = SharedProducer::<Mapped>::new(slots.region().slots(geometry), room, tail, 7, 6);
    producer.publish(&Outgoing { flags: 2, attributes, payload }).unwrap();
    let slot = offsets("### Slots")["FIRST"].0 + 2 * 64;
    assert_eq!(word(&slots, slot + inside["HEADER"].0), 0x8002 << 48 | 25 << 32 | 0x1_0001);
    let (body, reference) = (slot + inside["BODY"].0, offsets("A reference has 16 bytes"));
    assert_eq!(u32::from_le_bytes(raw(&slots, body + reference["arena"].0)), 0xa1a2_a3a4);
    assert_eq!(u32::from_le_bytes(raw(&slots, body + reference["reserved"].0)), 0);
    assert_eq!(word(&slots, body + reference["offset"].0), 0x0102_0304_0506);
    assert_eq!(&raw::<25>(&slots, body + 16), b"attributes of 25 bytes...");
}

#[test]
fn what_consumers_of_a_shared_subscription_do_stands_at_the_documented_bytes() {
    let (incarnation, geometry) = (7, Geometry::new(4, 64).unwrap());
    let make = |kind, bytes| OwnedRegion::create(Identity { kind, incarnation, bytes }).unwrap();
    let slots = make(RegionKind::Slots, geometry.slots_region_bytes());
    let claims = make(RegionKind::Claims, geometry.claims_region_bytes());
    let feed = make(RegionKind::Feed, geometry.of_feed().feed_region_bytes());
    let member = make(RegionKind::Member, layout::member::BYTES);
    let word = |region: &OwnedRegion, offset| u64::from_le_bytes(raw(region, offset));

    // Position 5 of 4 slots: lap 2, slot 1.
    let first = offsets("### Claims")["FIRST"].0;
    let of_ring = Claims::<Mapped>::new(slots.region().slots(geometry), claims.region().words(first, 4));
    let claimed = claims.region().word(first + 8);
    claimed.store(2 << 24 | 1 << 21 | 9, std::sync::atomic::Ordering::Release);
    assert!(!of_ring.ack(5, 8) && of_ring.ack(5, 9));
    assert_eq!(word(&claims, first + 8), 2 << 24 | 2 << 21 | 9);
    claimed.store(2 << 24 | 1 << 21 | 9, std::sync::atomic::Ordering::Release);
    assert!(of_ring.begin_move(5, 9));
    assert_eq!(word(&claims, first + 8), 2 << 24 | 3 << 21 | 9);
    of_ring.end_move(5, 9);
    assert_eq!(word(&claims, first + 8), 2 << 24 | 4 << 21 | 9);

    // Behind the claims of the ring come those of the feed; behind its slots, its records.
    let at = offsets("### Feed")["FIRST"].0;
    let fed = Claims::<Mapped>::new(feed.region().slots(geometry), claims.region().words(first + 32, 4));
    let records = feed.region().words(at + 4 * 64, 4 * layout::FEED_RECORD_WORDS as u64);
    let mut shard = Feed::<Mapped>::new(fed, feed.region().slots(geometry), records);
    let record = FeedRecord { position: 77, acquired: 3, failed: 2 };
    assert_eq!(shard.write(record, &Outgoing::inline(b"again")), 0);
    assert_eq!(word(&feed, at), 1 << 24 | 2 << 22);
    assert_eq!(&raw::<5>(&feed, at + 16), b"again");
    assert_eq!((word(&feed, at + 256), word(&feed, at + 264)), (77, 3 << 32 | 2));

    let at = offsets("### Member");
    let of = |name: &str| member.region().word(at[name].0);
    let words = SettlementWords::<Mapped> {
        called: of("CALLED"),
        written: of("WRITTEN"),
        judged: of("JUDGED"),
        late: of("LATE"),
        entries: member.region().words(at["FIRST"].0, layout::SETTLEMENTS * layout::SETTLEMENT_WORDS as u64),
    };
    let mut settlements = Settlements::new(words);
    let documented: Vec<_> = table("A ring of SETTLEMENTS", "| verdict | name |");
    let verdicts = [
        ("Ack", Verdict::Ack, 0),
        ("Nack", Verdict::Nack { delay_ms: None }, 0),
        ("NackAfter", Verdict::Nack { delay_ms: Some(11) }, 11),
        ("Reject", Verdict::Reject, 0),
        ("Release", Verdict::Release, 0),
        ("Extend", Verdict::Extend { lease_ms: 12 }, 12),
    ];
    assert_eq!(documented.len(), verdicts.len());
    for ((index, (name, verdict, argument)), [value, documented, _]) in
        verdicts.into_iter().enumerate().zip(documented)
    {
        assert_eq!(documented, name);
        settlements.write(Settlement { position: 5, attempt: 4, verdict }).unwrap();
        let entry = at["FIRST"].0 + index * layout::SETTLEMENT_WORDS * 8;
        let found = [0, 8, 16].map(|offset| word(&member, entry + offset));
        assert_eq!(found, [5, 4 << 32 | number(&value), argument], "{name}");
    }
    assert!(settlements.call() && !settlements.call());
    assert_eq!((word(&member, at["CALLED"].0), word(&member, at["WRITTEN"].0)), (1, 6));
}
