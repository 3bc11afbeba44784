//! `ringway top` at a real broker: as a table, and live on a terminal.

#![allow(clippy::unwrap_used, reason = "what tests share is test code too")]

mod support;

use rustix::process::Signal;
use support::terminal::Terminal;
use support::{Broker, Ended, ended, ringway, signal, until};

#[test]
fn once_prints_one_table_with_rates() {
    let broker = Broker::start();
    broker.stream("orders", "billing");
    broker.run(&["stream", "create", "jobs", "--kind", "queue"]).ok();
    broker.run(&["pub", "orders", "--count", "5"]).ok();
    let (publisher, _) = broker.spawn(&["pub", "orders", "--count", "1000000", "--rate", "200"]);
    let table = broker.run(&["top", "--once", "--interval", "500ms"]).ok();
    signal(&publisher, Signal::INT);
    ended(publisher).expect(130, &[]);
    let lines: Vec<_> = table.lines().collect();
    let heads: Vec<_> = lines[0].split_whitespace().collect();
    assert_eq!(heads[..8], ["STREAM", "KIND", "DURABLE", "IN/S", "OUT/S", "HELD", "BEHIND", "SLOWEST"]);
    assert!(lines[1].starts_with("jobs ") && lines[2].starts_with("jobs.dead "), "{table}");
    let orders: Vec<_> = lines.last().unwrap().split_whitespace().collect();
    assert_eq!((orders[0], orders[4], orders[7]), ("orders", "0", "billing"), "{table}");
    let rate: f64 = orders[3].parse().unwrap();
    assert!((50.0..400.0).contains(&rate), "{rate}");
}

#[test]
fn what_cannot_be_watched_is_refused_with_the_reason() {
    let broker = Broker::start();
    broker.run(&["top", "--interval", "50ms"]).expect(2, &["100ms at the least"]);
    broker.run(&["top", "--interval", "2h"]).expect(2, &["1h at the most"]);
    let nobody = broker.path("nobody");
    let ended = Ended::from(ringway().arg("top").arg("--dir").arg(nobody).output().unwrap());
    ended.expect(3, &["no broker answers in", "ringway serve --dir"]);
}

#[test]
fn a_terminal_shows_streams_follows_keys_and_is_as_before_at_the_end() {
    let broker = Broker::start();
    broker.stream("orders", "billing");
    broker.run(&["stream", "create", "audit"]).ok();
    let mut terminal = Terminal::new(100, 20);
    let child = terminal.start(broker.command(["top", "--interval", "100ms"]));
    terminal.shows("billing");
    assert!(terminal.is_raw());
    assert!(
        terminal.text().contains("\x1b[?1049h") && terminal.text().contains("\x1b[38;5;"),
        "{:?}",
        terminal.text()
    );
    terminal.press(b"?");
    terminal.shows("choose a stream");
    terminal.press(b"x/ord\r\r");
    terminal.shows("SUBSCRIPTION");
    terminal.press(b"\x1b");
    terminal.press(b"\t");
    terminal.shows("JOURNALED");
    terminal.press(b"q");
    ended(child).expect(0, &[]);
    terminal.is_restored();
}

#[test]
fn signals_and_ctrl_c_end_it_and_the_terminal_is_as_before() {
    let broker = Broker::start();
    for by_key in [true, false] {
        let mut terminal = Terminal::new(80, 10);
        let mut command = broker.command(["top"]);
        command.env("NO_COLOR", "1");
        let child = terminal.start(command);
        terminal.shows("no streams");
        assert!(!terminal.text().contains("\x1b[38;5;"));
        if by_key {
            terminal.press(b"\x03");
            ended(child).expect(0, &[]);
        } else {
            signal(&child, Signal::TERM);
            ended(child).expect(130, &[]);
        }
        terminal.is_restored();
    }
}

#[test]
fn a_signal_ends_it_although_the_terminal_takes_nothing_more() {
    let broker = Broker::start();
    let mut terminal = Terminal::new(80, 10);
    let child = terminal.start(broker.command(["top", "--interval", "100ms"]));
    terminal.shows("no streams");
    terminal.block();
    terminal.press(b"?");
    signal(&child, Signal::TERM);
    ended(child).expect(130, &[]);
    assert!(!terminal.is_raw());
    terminal.free();
}

#[test]
fn a_terminal_whose_cursor_cannot_be_moved_gets_plain_text() {
    let broker = Broker::start();
    broker.stream("orders", "billing");
    let shown = |arguments: &[&str], what: &str, code| {
        let terminal = Terminal::new(80, 24);
        let mut command = broker.command(arguments);
        command.env("TERM", "dumb").env_remove("NO_COLOR");
        let child = terminal.start_whole(command);
        terminal.shows(what);
        if code == 130 {
            signal(&child, Signal::TERM);
        }
        ended(child).expect(code, &[]);
        assert!(!terminal.text().contains('\x1b'), "{:?}", terminal.text());
    };
    shown(&["top", "--interval", "100ms"], "billing", 0);
    shown(&["inspect", "orders", "--watch"], "orders", 130);
    shown(&["bench", "latency", "--time", "500ms"], "MESSAGES", 0);
}

#[test]
fn a_tiny_terminal_is_told_so_and_a_broker_that_ends_is_said() {
    let broker = Broker::start();
    for (columns, rows) in [(1, 1), (500, 3)] {
        let mut terminal = Terminal::new(columns, rows);
        let child = terminal.start(broker.command(["top", "--interval", "100ms"]));
        until("it has taken the terminal", || terminal.is_raw());
        terminal.press(b"?x\t/a\r\r\x1bq");
        ended(child).expect(0, &[]);
    }
    let mut terminal = Terminal::new(20, 4);
    let child = terminal.start(broker.command(["top", "--interval", "100ms"]));
    terminal.shows("small");
    terminal.resize(120, 10);
    terminal.shows("no");
    broker.run(&["stop"]).ok();
    terminal.shows("serve");
    terminal.press(b"q");
    ended(child).expect(0, &[]);
    terminal.is_restored();
}
