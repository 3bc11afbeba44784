//! A report as tables for people.

use std::fmt::Write;
use std::io::stdout;
use std::time::{Duration, SystemTime};

use rustix::termios::tcgetwinsize;

use super::claims::{ClaimCounts, LeaseReport, SharedReport};
use super::report::{GateKind, GateReport, Report, RingReport};
use crate::admin::settings_text;
use crate::output::{count, is_screen, lines, table, thousands};

/// Columns and rows of a terminal that does not say.
const SIZE_USUAL: (usize, usize) = (80, 24);

/// How text is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    /// Headings are bold, what is wrong is red.
    colours: bool,
    /// Columns and rows, of a terminal.
    size: Option<(usize, usize)>,
}

impl Style {
    /// Of standard output, and what the environment says.
    pub(super) fn of_stdout() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_screen = is_screen(&stdout());
        let size = is_screen.then(|| match tcgetwinsize(stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => SIZE_USUAL,
        });
        Self { colours: is_screen && !is_set("NO_COLOR"), size }
    }

    fn bold(self, text: &str) -> String {
        if self.colours { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn wrong(self, text: &str) -> String {
        if self.colours { format!("\x1b[31m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The same table with its heads in bold.
    fn headed(self, text: &str) -> String {
        match text.split_once('\n') {
            Some((heads, rows)) => format!("{}\n{rows}", self.bold(heads)),
            None => text.to_owned(),
        }
    }

    /// A whole screen of a terminal with as much of the text as fits; elsewhere the text and an empty line.
    pub(super) fn screen(self, text: &str) -> String {
        let Some((columns, rows)) = self.size else { return format!("{text}\n") };
        let mut screen = "\x1b[H".to_owned();
        for line in text.lines().take(rows.saturating_sub(1)) {
            let _ = writeln!(screen, "{}\x1b[K", cut(line, columns));
        }
        screen + "\x1b[J"
    }
}

/// So much of a line as fits so many columns; what sets colours takes none.
fn cut(line: &str, columns: usize) -> String {
    let (mut text, mut left, mut is_escape, mut is_coloured) = (String::new(), columns, false, false);
    for character in line.chars() {
        if character == '\x1b' {
            (is_escape, is_coloured) = (true, true);
        } else if !is_escape {
            if left == 0 {
                break;
            }
            left -= 1;
        }
        text.push(character);
        is_escape = is_escape && character != 'm';
    }
    text + if is_coloured { "\x1b[0m" } else { "" }
}

/// When a dump was written.
pub(super) fn taken(taken_ns: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(taken_ns));
    time.map_or_else(String::new, |time| {
        format!("dump written at {}\n\n", humantime::format_rfc3339_seconds(time))
    })
}

/// All partitions, one below the other.
pub(super) fn of_all(reports: &[Report], style: Style) -> String {
    reports.iter().map(|report| of(report, style)).collect::<Vec<_>>().join("\n")
}

fn of(report: &Report, style: Style) -> String {
    let title = format!(
        "stream {}, partition {} of {}, shard {}",
        report.stream, report.partition, report.settings.partitions, report.shard
    );
    let mut fields = vec![("settings", settings_text(&report.settings))];
    let producers = report.producers.iter().map(|of| format!("owner {} (process {})", of.owner, of.pid));
    fields.push(("producers", listed(producers)));
    let mut text = format!("{}\n", style.bold(&title));
    let Some(ring) = &report.ring else {
        fields.push(("memory", "not made yet: the partition was never opened".to_owned()));
        return text + &lines(&fields);
    };
    fields.extend(ring_fields(ring, style));
    text += &lines(&fields);
    if !ring.gates.is_empty() {
        text += &format!("\n{}", style.headed(&gate_table(ring)));
    }
    for shared in &ring.shared {
        text += &format!("\n{}", shared_text(shared, style));
    }
    if !ring.arenas.is_empty() {
        text += &format!("\n{}", style.headed(&arena_table(ring)));
    }
    text + &format!("\n{}", style.headed(&doorbell_table(ring)))
}

fn listed(things: impl Iterator<Item = String>) -> String {
    let things: Vec<_> = things.collect();
    if things.is_empty() { "-".to_owned() } else { things.join(", ") }
}

fn per_second(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{}/s", thousands(rate.round() as u64)))
}

fn ring_fields(ring: &RingReport, style: Style) -> Vec<(&'static str, String)> {
    let held = match ring.end - ring.first {
        0 => "none held".to_owned(),
        _ => format!("{} to {} held", thousands(ring.first), thousands(ring.end - 1)),
    };
    let mut fields = vec![
        ("incarnation", ring.incarnation.clone()),
        (
            "positions",
            format!(
                "{held}, the next is {}; limit {} (epoch {}); tail hint {}",
                thousands(ring.end),
                thousands(ring.limit),
                ring.limit_epoch,
                thousands(ring.tail_hint)
            ),
        ),
    ];
    if let Some(rate) = ring.published_per_second {
        fields.push(("published", per_second(Some(rate))));
    }
    if !ring.unfinished.is_empty() {
        let unfinished = ring.unfinished.iter().map(|of| {
            let pid = of.pid.map_or_else(|| "gone".to_owned(), |pid| format!("process {pid}"));
            format!("{} by owner {} ({pid})", thousands(of.position), of.owner)
        });
        fields.push(("unfinished", style.wrong(&listed(unfinished))));
    }
    if let Some(journal) = &ring.journal {
        let state = match journal.state {
            "ready" => journal.state.to_owned(),
            wrong => style.wrong(wrong),
        };
        let mark = |at: u64| format!("{} ({} behind)", thousands(at), thousands(ring.end.saturating_sub(at)));
        let rate = journal
            .synced_per_second
            .map_or_else(String::new, |rate| format!(", {}", per_second(Some(rate))));
        let (written, synced) = (mark(journal.written), mark(journal.synced));
        fields.push(("journal", format!("{state}: written {written}, synced {synced}{rate}")));
    }
    fields
}

fn gate_state(gate: &GateReport) -> &'static str {
    match gate {
        GateReport { detached: true, .. } => "detached",
        GateReport { in_force: true, .. } => "in force",
        _ => "no gate",
    }
}

fn gate_table(ring: &RingReport) -> String {
    let row = |gate: &GateReport| {
        let kind = match gate.kind {
            GateKind::Journal => "journal",
            GateKind::Cursor => "cursor",
            GateKind::Shared => "shared",
        };
        let consumers = gate.consumer_pids.iter().map(u32::to_string);
        vec![
            gate.gate.to_string(),
            gate.subscription.clone().unwrap_or_else(|| "(journal)".to_owned()),
            kind.to_owned(),
            thousands(gate.position),
            thousands(gate.lag),
            per_second(gate.per_second),
            gate_state(gate).to_owned(),
            gate.hazards.to_string(),
            listed(consumers),
        ]
    };
    let heads =
        [">GATE", "OWNER", "KIND", ">POSITION", ">LAG", ">RATE", "STATE", ">HAZARDS", "CONSUMER PROCESSES"];
    table(&heads, &ring.gates.iter().map(row).collect::<Vec<_>>())
}

fn counts_text(claims: ClaimCounts) -> String {
    let ClaimCounts { settled, leased, moving, moved, free } = claims;
    let counts =
        [(settled, "settled"), (leased, "leased"), (free, "free"), (moving, "moving"), (moved, "moved")];
    let counts = counts.into_iter().filter(|(count, what)| *count > 0 || !what.starts_with("mov"));
    listed(counts.map(|(count, what)| format!("{} {what}", thousands(count))))
}

fn shared_text(shared: &SharedReport, style: Style) -> String {
    let SharedReport { subscription, ready, leased, delayed, dead, dead_total, lot, .. } = shared;
    let mut fields = vec![
        (
            "messages",
            format!(
                "{} ready, {} leased, {} delayed, {} dead ({} have died)",
                thousands(*ready),
                thousands(*leased),
                thousands(*delayed),
                thousands(*dead),
                thousands(*dead_total)
            ),
        ),
        ("claims", counts_text(shared.claims)),
    ];
    if let (Some(first), Some(last)) = (shared.map.first(), shared.map.last()) {
        let map: String = shared.map.iter().map(|range| range.claims.character()).collect();
        let (first, last) = (thousands(first.from), thousands(last.to - 1));
        fields.push(("map", format!("{map}  {first} to {last}")));
    }
    fields.push((
        "lot",
        format!(
            "{}: {} ready, {} delayed, {} fed, {} held, {} dead",
            count(lot.messages, "message"),
            thousands(lot.ready),
            thousands(lot.delayed),
            thousands(lot.fed),
            thousands(lot.held),
            thousands(lot.dead)
        ),
    ));
    let watched = if shared.watched { "the shard looks at them" } else { "none that the shard looks at" };
    let lease = humantime::format_duration(Duration::from_millis(shared.lease_ms.into()));
    fields.push(("leases", format!("of {lease}, {watched}")));
    let (begun, done) = shared.rounds;
    if begun > 0 {
        fields.push(("rounds", format!("{} begun, {} done", thousands(begun), thousands(done))));
    }
    let title = format!("subscription {subscription}");
    let mut text = format!("{}\n{}", style.bold(&title), lines(&fields));
    if !shared.members.is_empty() {
        text += &format!("\n{}", style.headed(&member_table(shared)));
    }
    if !shared.leases.is_empty() {
        text += &format!("\n{}", style.headed(&lease_table(shared)));
    }
    text
}

fn member_table(shared: &SharedReport) -> String {
    let rows: Vec<_> = shared
        .members
        .iter()
        .map(|member| {
            vec![
                member.member.to_string(),
                member.pid.to_string(),
                if member.active { "active" } else { "waits" }.to_owned(),
                thousands(member.leases),
                thousands(member.settlements),
                thousands(member.unjudged),
                thousands(member.late),
                per_second(member.settlements_per_second),
            ]
        })
        .collect();
    let heads = [">MEMBER", ">PROCESS", "STATE", ">LEASES", ">VERDICTS", ">NOT JUDGED", ">LATE", ">RATE"];
    table(&heads, &rows)
}

fn lease_table(shared: &SharedReport) -> String {
    let time = |ms: Option<u64>| {
        let time = ms.map(|ms| humantime::format_duration(Duration::from_millis(ms / 100 * 100)).to_string());
        time.unwrap_or_else(|| "-".to_owned())
    };
    let row = |lease: &LeaseReport| {
        vec![
            thousands(lease.position),
            lease.on.to_owned(),
            lease.member.to_string(),
            lease.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            time(lease.seen_for_ms),
            time(lease.ends_in_ms),
        ]
    };
    let heads = [">OLDEST LEASES", "ON", ">MEMBER", ">PROCESS", "SEEN FOR", "EXTENDED FOR"];
    table(&heads, &shared.leases.iter().map(row).collect::<Vec<_>>())
}

fn arena_table(ring: &RingReport) -> String {
    let rows: Vec<_> = ring
        .arenas
        .iter()
        .map(|arena| {
            vec![
                arena.arena.to_string(),
                match (arena.owner, arena.pid) {
                    (Some(owner), Some(pid)) => format!("owner {owner} (process {pid})"),
                    _ => arena.of.to_owned(),
                },
                thousands(arena.bytes),
                arena.used.map_or_else(|| "-".to_owned(), thousands),
            ]
        })
        .collect();
    table(&[">ARENA", "OF", ">BYTES", ">USED"], &rows)
}

fn doorbell_table(ring: &RingReport) -> String {
    let rows: Vec<_> = ring
        .doorbells
        .iter()
        .map(|bell| {
            let who = match bell.direction {
                "data" => "consumers that wait for messages",
                "space" => "producers that wait for room",
                "confirm" => "who waits for a confirm",
                _ => "the journal",
            };
            vec![
                who.to_owned(),
                thousands(bell.announced),
                per_second(bell.announced_per_second),
                thousands(bell.rung.into()),
            ]
        })
        .collect();
    table(&["SLEEPERS", ">ANNOUNCED", ">RATE", ">RUNG FOR"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_at_the_columns_and_colours_take_none() {
        assert_eq!(cut("Aufträge", 5), "Auftr");
        assert_eq!(cut("ab", 5), "ab");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut("\x1b[1mabcdef\x1b[0m", 3), "\x1b[1mabc\x1b[0m");
    }

    #[test]
    fn a_screen_has_no_more_than_the_terminal_and_elsewhere_it_is_the_text() {
        let style = Style { colours: false, size: Some((20, 3)) };
        let text = format!("{}\nb\nc\nd\n", "a".repeat(30));
        assert_eq!(style.screen(&text), format!("\x1b[H{}\x1b[K\nb\x1b[K\n\x1b[J", "a".repeat(20)));
        assert_eq!(Style { colours: true, size: Some((1, 1)) }.screen(&text), "\x1b[H\x1b[J");
        assert_eq!(Style::default().screen("a\n"), "a\n\n");
    }

    #[test]
    fn the_map_shows_the_most_urgent_of_each_range() {
        let claims = |leased, free, moved| ClaimCounts { settled: 9, leased, moving: 0, moved, free };
        let map = [claims(1, 5, 0), claims(0, 1, 3), claims(0, 0, 1), claims(0, 0, 0)];
        assert_eq!(map.map(ClaimCounts::character), ['L', '.', '+', '#']);
    }

    #[test]
    fn without_colours_nothing_is_escaped() {
        let style = Style::default();
        assert_eq!(
            (style.bold("a"), style.wrong("b"), style.headed("A\nb\n")),
            ("a".into(), "b".into(), "A\nb\n".into())
        );
        let style = Style { colours: true, size: None };
        assert_eq!(style.headed("A\nb\n"), "\x1b[1mA\x1b[0m\nb\n");
    }
}
