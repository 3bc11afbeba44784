//! The screens. A function of the state alone: what is shown is what is tested.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState};
use ringway_client::SharedInfo;

use super::app::{App, View};
use super::columns::{Column, per_second};
use super::model::{PartitionRow, ShardRow, SubscriptionRow, sum};
use crate::output::{count, thousands};

/// Smaller terminals are told so.
const WIDTH_MIN: u16 = 32;
const HEIGHT_MIN: u16 = 6;

const HELP: [&str; 11] = [
    "up, down     choose a stream (also j, k, PgUp, PgDn, Home, End)",
    "Enter        look into it: its subscriptions and partitions",
    "Esc          back; of the list of streams: clear the filter",
    "< >          sort by the column to the left, to the right",
    "r            turn the order around",
    "/            show only streams whose names contain a text",
    "Tab          shards, and back",
    "q, Ctrl-C    end",
    "",
    "BEHIND: messages that the slowest subscription has not",
    "consumed. OUT/S: of all subscriptions together.",
];

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Palette {
    has_colours: bool,
}

impl Palette {
    /// As <https://no-color.org> says.
    pub(crate) fn of_environment() -> Self {
        Self { has_colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    fn colour(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn head(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    fn warning(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }
}

/// Draws all of it.
pub(crate) fn draw(frame: &mut Frame<'_>, app: &App, palette: Palette) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let text = format!("too small: {WIDTH_MIN}x{HEIGHT_MIN} is the least");
        return frame.render_widget(Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true }), area);
    }
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    frame.render_widget(heading(app, palette), head);
    match &app.view {
        View::Streams => streams(frame, app, palette, body),
        View::Stream(name) => stream(frame, app, palette, (name, body)),
        View::Shards => shards(frame, app, palette, body),
    }
    frame.render_widget(footing(app, palette), foot);
    if app.shows_help {
        help(frame, palette, body);
    }
}

fn heading(app: &App, palette: Palette) -> Paragraph<'static> {
    let text = match app.model.now() {
        None => "asking the broker".to_owned(),
        Some(look) => {
            let rows = app.model.streams();
            let (published, consumed) =
                (sum(rows.iter().map(|row| row.published)), sum(rows.iter().map(|row| row.consumed)));
            format!(
                "{}, {} in/s, {} out/s, {}, broker {}, {}",
                count(rows.len() as u64, "stream"),
                per_second(published),
                per_second(consumed),
                count(look.shards.into(), "shard"),
                look.broker_pid,
                app.directory,
            )
        }
    };
    Paragraph::new(Line::from(vec![Span::styled("ringway ", palette.head()), Span::raw(text)]))
}

fn footing(app: &App, palette: Palette) -> Paragraph<'static> {
    if app.edits_filter {
        return Paragraph::new(format!("/{}_   Enter keeps it, Esc clears it", app.filter));
    }
    if let Some(trouble) = &app.trouble {
        return Paragraph::new(Span::styled(trouble.clone(), palette.warning()));
    }
    let keys = match app.view {
        View::Streams => "? help  q end  / filter  < > sort  Enter look into  Tab shards",
        View::Stream(_) => "? help  q end  Esc back  Tab shards",
        View::Shards => "? help  q end  Esc back",
    };
    let filter = if app.filter.is_empty() { String::new() } else { format!("filter: {}  ", app.filter) };
    Paragraph::new(format!("{filter}{keys}"))
}

fn streams(frame: &mut Frame<'_>, app: &App, palette: Palette, area: Rect) {
    let rows = app.rows();
    let columns = Column::fitting(area.width);
    let heads = columns.iter().map(|column| {
        let mark = if *column != app.sorted_by {
            ""
        } else if app.is_reversed {
            "^"
        } else {
            "v"
        };
        cell(format!("{}{mark}", column.title()), column.width(), column.is_number())
    });
    let lines = rows.iter().map(|row| {
        let cells = columns.iter().map(|column| cell(column.cell(row), column.width(), column.is_number()));
        let style = if row.trouble.is_some() { palette.warning() } else { Style::new() };
        Row::new(cells.collect::<Vec<_>>()).style(style)
    });
    let widths = columns.iter().map(|column| match column {
        Column::Name => Constraint::Min(column.width()),
        _ => Constraint::Length(column.width()),
    });
    let table = Table::new(lines.collect::<Vec<_>>(), widths.collect::<Vec<_>>())
        .header(Row::new(heads.collect::<Vec<_>>()).style(palette.head()))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(app.chosen_row(&rows));
    frame.render_stateful_widget(table, area, &mut state);
    if rows.is_empty() && app.model.now().is_some() {
        let text = if app.filter.is_empty() {
            "no streams: ringway stream create NAME".to_owned()
        } else {
            format!("no stream's name contains {:?}", app.filter)
        };
        let [_, below] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
        frame.render_widget(Paragraph::new(text), below);
    }
}

fn stream(frame: &mut Frame<'_>, app: &App, palette: Palette, (name, area): (&str, Rect)) {
    let Some(found) = app.model.stream(name) else {
        return frame.render_widget(Paragraph::new(format!("stream {name} is gone")), area);
    };
    let subscriptions = app.model.subscriptions(name);
    let partitions = app.model.partitions(name);
    let [title, upper, lower] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Max(subscriptions.len().max(1) as u16 + 2),
        Constraint::Min(0),
    ])
    .areas(area);
    let settings = &found.settings;
    let mut about = format!(
        "{name}: {}, {} slots of {} bytes, durability {}, {}",
        settings.kind.name(),
        thousands(settings.slots),
        settings.slot_bytes,
        settings.durability.name(),
        count(found.producers().into(), "producer"),
    );
    let trouble = found.partitions.iter().find_map(|partition| partition.journal.as_deref());
    if let Some(trouble) = trouble {
        about = format!("{name}: {trouble}");
    }
    let style = if trouble.is_some() { palette.warning() } else { Style::new() };
    frame.render_widget(Paragraph::new(Span::styled(about, style)), title);
    if subscriptions.is_empty() {
        frame.render_widget(Paragraph::new("no subscriptions"), upper);
    } else {
        let rows = subscriptions.iter().map(subscription_cells).collect();
        frame.render_widget(plain_table(&SUBSCRIPTION_HEADS, rows, palette, upper.width), upper);
    }
    let rows = partitions.iter().map(partition_cells).collect();
    frame.render_widget(plain_table(&PARTITION_HEADS, rows, palette, lower.width), lower);
}

/// Titles, widths, and whether they are numbers.
type Heads<const COLUMNS: usize> = [(&'static str, u16, bool); COLUMNS];

const SUBSCRIPTION_HEADS: Heads<9> = [
    ("SUBSCRIPTION", 14, false),
    ("MODE", 6, false),
    ("OUT/S", 9, true),
    ("BEHIND", 9, true),
    ("READY", 8, true),
    ("LEASED", 6, true),
    ("DELAYED", 7, true),
    ("DEAD", 6, true),
    ("CONSUMERS", 9, true),
];

fn subscription_cells(row: &SubscriptionRow) -> [String; 9] {
    let of_shared = |value: fn(&SharedInfo) -> u64| {
        row.shared.as_ref().map_or("-".to_owned(), |one| thousands(value(one)))
    };
    [
        row.name.clone(),
        row.mode.to_owned(),
        per_second(row.consumed),
        thousands(row.behind),
        of_shared(|shared| shared.ready),
        of_shared(|shared| shared.leased),
        of_shared(|shared| shared.delayed),
        of_shared(|shared| shared.dead_total),
        if row.is_detached { "detached".to_owned() } else { thousands(row.consumers) },
    ]
}

const PARTITION_HEADS: Heads<7> = [
    ("PARTITION", 9, true),
    ("SHARD", 5, true),
    ("IN/S", 9, true),
    ("FIRST", 12, true),
    ("NEXT", 12, true),
    ("WRITTEN", 12, true),
    ("SYNCED", 12, true),
];

fn partition_cells(row: &PartitionRow) -> [String; 7] {
    let (written, synced) = row.durable.map_or(("-".to_owned(), "-".to_owned()), |(written, synced)| {
        (thousands(written), thousands(synced))
    });
    [
        row.partition.to_string(),
        row.shard.to_string(),
        per_second(row.published),
        thousands(row.first_position),
        thousands(row.next_position),
        written,
        synced,
    ]
}

const SHARD_HEADS: Heads<8> = [
    ("SHARD", 5, true),
    ("PARTITIONS", 10, true),
    ("IN/S", 9, true),
    ("HELD", 10, true),
    ("JOURNALED", 9, true),
    ("UNWRITTEN", 9, true),
    ("UNSYNCED", 9, true),
    ("JOURNAL", 24, false),
];

fn shards(frame: &mut Frame<'_>, app: &App, palette: Palette, area: Rect) {
    let cells = |row: &ShardRow| {
        let journal = match &row.trouble {
            Some(trouble) => trouble.clone(),
            None if row.journaled > 0 => "ok".to_owned(),
            None => "-".to_owned(),
        };
        [
            row.shard.to_string(),
            thousands(row.partitions),
            per_second(row.published),
            thousands(row.held),
            thousands(row.journaled),
            thousands(row.unwritten),
            thousands(row.unsynced),
            journal,
        ]
    };
    let rows = app.model.shards().iter().map(cells).collect();
    frame.render_widget(plain_table(&SHARD_HEADS, rows, palette, area.width), area);
}

/// With as many columns, from the left, as there is room for.
fn plain_table<const COLUMNS: usize>(
    heads: &Heads<COLUMNS>,
    rows: Vec<[String; COLUMNS]>,
    palette: Palette,
    width: u16,
) -> Table<'static> {
    let ends = heads.iter().scan(0, |end, (_, width, _)| {
        *end += width + 1;
        Some(*end)
    });
    let fitting = ends.take_while(|end| *end <= width + 1).count().max(1);
    let line = |cells: [String; COLUMNS]| {
        let cells = cells.into_iter().zip(heads).take(fitting);
        Row::new(
            cells.map(|(text, (_, width, is_number))| cell(text, *width, *is_number)).collect::<Vec<_>>(),
        )
    };
    let titles = line(heads.map(|(title, ..)| title.to_owned())).style(palette.head());
    let widths = heads.iter().take(fitting).map(|(_, width, _)| Constraint::Length(*width));
    Table::new(rows.into_iter().map(line).collect::<Vec<_>>(), widths.collect::<Vec<_>>()).header(titles)
}

/// A number that is too long for its column is rounded: cut off it would be another one.
fn cell(text: String, width: u16, is_number: bool) -> Cell<'static> {
    let is_too_long = text.len() > width.into();
    let number = text.replace(',', "").parse().ok().filter(|_| is_number && is_too_long);
    let text = number.map_or(text, rounded);
    let alignment = if is_number { Alignment::Right } else { Alignment::Left };
    Cell::from(Text::from(text).alignment(alignment))
}

/// In thousands, millions, …: 1.2M.
fn rounded(number: u64) -> String {
    let (mut value, mut unit) = (number as f64, "");
    for next in ["k", "M", "G", "T", "P", "E"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    format!("{value:.1}{unit}")
}

fn help(frame: &mut Frame<'_>, palette: Palette, body: Rect) {
    let width = body.width.min(66);
    let height = body.height.min(HELP.len() as u16 + 2);
    let area =
        Rect { x: body.x + (body.width - width) / 2, y: body.y + (body.height - height) / 2, width, height };
    let block = Block::bordered().title(" keys: any of them closes this ").border_style(palette.head());
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(HELP.map(Line::from).to_vec()).block(block), area);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;

    use super::super::app::tests::{app, press, write};
    use super::super::model::tests::{durable, look, stream, subscription};
    use super::*;

    /// Set: the snapshots are written anew, to be looked at and committed.
    const WRITE: &str = "RINGWAY_WRITE_SNAPSHOTS";

    /// Compares what is drawn with the committed file of this name.
    #[track_caller]
    fn is_as_before(app: &App, (width, height): (u16, u16), name: &str) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, app, Palette { has_colours: false })).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = buffer.content.chunks(width.into()).map(|cells| {
            let line: String = cells.iter().map(|cell| cell.symbol()).collect();
            let reversed = cells.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED));
            format!("{}{}\n", line.trim_end(), if reversed { " <" } else { "" })
        });
        let drawn: String = lines.collect();
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("src/top/snapshots").join(format!("{name}.txt"));
        if std::env::var_os(WRITE).is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &drawn).unwrap();
        }
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(drawn == before, "{name} is drawn as\n{drawn}\nand was (write it with {WRITE}=1)\n{before}");
    }

    const JOBS: SharedInfo =
        SharedInfo { consumers: 2, ready: 150, leased: 3, delayed: 1, dead: 0, dead_total: 4 };

    /// Some streams at two times a second apart.
    fn busy() -> App {
        let at = |time: u64| {
            let (orders, jobs) = (1_000_000 + time * 1234, 5_000 + time * 200);
            let ready = 150 - time * 50;
            let streams = vec![
                stream("audit", 40, None),
                durable(stream("jobs", jobs, Some(("jobs", 154))), jobs - 2, jobs - 60),
                stream("orders", orders, Some(("billing", 3000))),
            ];
            let jobs_done = jobs - ready - 4;
            let all = vec![
                subscription(
                    "jobs",
                    "jobs",
                    (jobs_done, jobs - jobs_done),
                    Some(SharedInfo { ready, ..JOBS }),
                ),
                subscription("orders", "billing", (orders - 3000, 3000), None),
                subscription("orders", "ledger", (orders, 0), None),
            ];
            look(time * 1000, streams, all)
        };
        let mut app = app(vec![]);
        app.update(Ok(at(0)));
        app.update(Ok(at(1)));
        app
    }

    #[test]
    fn streams_are_shown_with_rates_and_who_is_behind() {
        let mut app = busy();
        is_as_before(&app, (120, 8), "streams");
        is_as_before(&app, (80, 8), "streams-80");
        is_as_before(&app, (34, 6), "streams-narrow");
        press(&mut app, &[KeyCode::Down]);
        write(&mut app, ">>>>>>r");
        is_as_before(&app, (80, 8), "streams-sorted");
        write(&mut app, "/or");
        is_as_before(&app, (80, 6), "streams-filter");
        write(&mut app, "x");
        press(&mut app, &[KeyCode::Enter]);
        is_as_before(&app, (80, 6), "streams-none-fits");
    }

    #[test]
    fn a_stream_is_shown_with_its_subscriptions_and_partitions() {
        let mut app = busy();
        press(&mut app, &[KeyCode::Down, KeyCode::Enter]);
        is_as_before(&app, (90, 12), "stream-queue");
        is_as_before(&app, (40, 8), "stream-small");
        press(&mut app, &[KeyCode::Esc, KeyCode::Down, KeyCode::Enter]);
        is_as_before(&app, (90, 12), "stream-topic");
        app.update(Ok(look(2000, vec![], vec![])));
        is_as_before(&app, (60, 6), "stream-gone");
    }

    #[test]
    fn shards_are_shown_with_what_is_not_durable_yet() {
        let mut app = busy();
        press(&mut app, &[KeyCode::Tab]);
        is_as_before(&app, (100, 8), "shards");
    }

    #[test]
    fn the_help_lies_over_what_there_is() {
        let mut app = busy();
        write(&mut app, "?");
        is_as_before(&app, (80, 18), "help");
        is_as_before(&app, (40, 8), "help-small");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let nothing = App::new("/run/ringway".to_owned(), std::time::Duration::from_secs(1));
        is_as_before(&nothing, (60, 6), "asking");
        let mut empty = app(vec![]);
        is_as_before(&empty, (60, 6), "empty");
        empty.update(Err("the broker is gone".to_owned()));
        is_as_before(&empty, (60, 6), "gone");
    }

    #[test]
    fn a_number_that_is_too_long_is_rounded_never_cut() {
        assert_eq!([999, 1234, 1 << 50].map(rounded), ["999.0", "1.2k", "1.1P"]);
        let mut app = app(vec![stream("s", 1 << 50, None)]);
        press(&mut app, &[KeyCode::Enter]);
        is_as_before(&app, (60, 10), "stream-long-numbers");
    }

    #[test]
    fn no_terminal_is_too_small_to_say_so() {
        let app = busy();
        is_as_before(&app, (31, 8), "too-small");
        for size in [(1, 1), (2, 40), (40, 1), (32, 6)] {
            let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
            terminal.draw(|frame| draw(frame, &app, Palette::of_environment())).unwrap();
        }
    }
}
