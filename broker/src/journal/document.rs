//! Does `FORMAT.md` say what the code does?

use std::collections::BTreeMap;
use std::mem::offset_of;

use super::format::{self, BatchHeader, SegmentHeader};
use super::records::{PartHeader, Prefix, Run};
use super::snapshot::{self, SnapshotHeader};

/// The rows of the first table behind a heading: what stands in their columns.
fn table(heading: &str) -> Vec<Vec<String>> {
    let document = include_str!("../../FORMAT.md");
    let (_, behind) = document.split_once(&format!("{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let rows =
        behind.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.skip(2).map(cells).collect()
}

/// Offset and bytes of each field.
type Fields = BTreeMap<String, (usize, usize)>;

fn document(heading: &str) -> Fields {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text} is no number"));
    table(heading).into_iter().map(|row| (row[2].clone(), (number(&row[0]), number(&row[1])))).collect()
}

/// The fields of a type, with their offsets and sizes.
macro_rules! fields {
    ($type:ty: $($field:ident),*) => {{
        fn bytes<T>(_: fn(&$type) -> &T) -> usize {
            size_of::<T>()
        }
        let fields = [$((stringify!($field).to_owned(), (offset_of!($type, $field), bytes(|it| &it.$field)))),*];
        Fields::from(fields)
    }};
}

#[test]
fn every_field_of_the_code_is_in_the_document_and_the_other_way_round() {
    let segment = fields!(SegmentHeader: magic, checksum, version, shard, journal, segment, epoch, salt, bytes,
        before_lsn, before_checksum, before_segment);
    assert_eq!(document("### Segment header"), segment);
    let batch = fields!(BatchHeader: magic, checksum, body_checksum, previous, first_lsn, durable_lsn, segment, epoch,
        time_ns, shard, records, body_bytes, bytes, reserved);
    assert_eq!(document("### Batch header"), batch);
    assert_eq!(document("### In front of every record"), fields!(Prefix: kind, reserved, bytes));
    assert_eq!(document("### Messages (1)"), fields!(Run: stream, first, count, reserved));
    let part = fields!(PartHeader: stream, position, header, body_bytes, offset);
    assert_eq!(document("### A part of a message (2)"), part);
    let snapshot = fields!(SnapshotHeader: magic, checksum, version, reserved, bytes, lsn, last_checksum, segment, offset);
    assert_eq!(document("## Snapshots"), snapshot);
}

#[test]
fn the_constants_are_those_of_the_code() {
    let code = [
        ("FORMAT_VERSION", u64::from(format::FORMAT_VERSION)),
        ("SEGMENT_MAGIC", format::SEGMENT_MAGIC),
        ("BATCH_MAGIC", format::BATCH_MAGIC),
        ("SNAPSHOT_MAGIC", snapshot::SNAPSHOT_MAGIC),
        ("BLOCK_BYTES", format::BLOCK_BYTES as u64),
        ("BATCH_HEADER_BYTES", format::BATCH_HEADER_BYTES as u64),
        ("BATCH_BYTES_MAX", format::BATCH_BYTES_MAX as u64),
        ("FIRST_BATCH", format::FIRST_BATCH),
    ];
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).unwrap(),
        None => text.parse().unwrap(),
    };
    let document: BTreeMap<_, _> =
        table("## Constants").into_iter().map(|row| (row[0].clone(), number(&row[1]))).collect();
    let code: BTreeMap<_, _> = code.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(document, code);
}
