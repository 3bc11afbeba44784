//! `ringway top`: a running broker, live.
//!
//! ```text
//! thread "asker" ──looks (channel)──▶ model, app ──▶ screen ──▶ terminal
//!       ▲── which subscriptions ──────┘   ▲── keys
//! ```
//!
//! 1. The terminal is as it was when the command ends: by a key, a signal, an error or a panic. One that takes nothing more holds up
//!    no signal; then it is left to itself, but for its modes.
//! 2. The broker is asked by a thread of its own, one look at a time: one that is slow or gone makes no key wait.
//! 3. A look costs the broker a question about all streams, and one for each stream whose subscriptions are shown.

mod app;
mod columns;
mod model;
mod screen;
mod terminal;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event};
use ringway_client::{AdminError, Connection, directory};

use self::app::App;
use self::columns::Column;
use self::model::Look;
use self::screen::Palette;
use self::terminal::Terminal;
use crate::cli::TopArgs;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::{is_screen, print, table};

/// Longest time between two looks for keys, signals and answers.
const TURN: Duration = Duration::from_millis(50);

/// Runs the command.
pub(crate) fn run(args: &TopArgs, directory: Option<PathBuf>) -> Result<(), Failure> {
    let directory = directory.unwrap_or_else(directory::default_directory);
    // A broker that is not there is said before the terminal is taken.
    let connection = crate::connect_to(&directory)?;
    let interrupt = Interrupt::catch()?;
    let app = App::new(directory.display().to_string(), args.interval);
    if args.once || !is_screen(&io::stdout()) || !io::stdin().is_terminal() {
        return once(app, &connection, &interrupt);
    }
    let mut asker = Asker::start(connection, &directory)?;
    let terminal = Terminal::take(interrupt.clone())
        .map_err(|error| Failure::new(format!("cannot use the terminal: {error}")))?;
    live(app, terminal, &mut asker, &interrupt)
}

/// One table, of rates over one interval.
fn once(mut app: App, connection: &Connection, interrupt: &Interrupt) -> Result<(), Failure> {
    let began = Instant::now();
    for until in [began, began + app.interval] {
        if !interrupt.sleep_until(until) {
            return Err(Failure::Interrupted);
        }
        app.update(Ok(look(connection, app.wanted(), began)?));
    }
    let right = Column::ALL.map(|column| if column.is_number() { ">" } else { "" });
    let heads: Vec<String> =
        right.iter().zip(Column::ALL).map(|(mark, column)| format!("{mark}{}", column.title())).collect();
    let rows: Vec<_> =
        app.rows().iter().map(|row| Column::ALL.map(|column| column.cell(row)).to_vec()).collect();
    print(&table(&heads.iter().map(String::as_str).collect::<Vec<_>>(), &rows))
}

fn live(
    mut app: App,
    mut terminal: Terminal,
    asker: &mut Asker,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let palette = Palette::of_environment();
    let failed = |error: io::Error| Failure::new(format!("the terminal failed: {error}"));
    let mut is_shown = false;
    loop {
        if let Some(looked) = asker.turn(&app)? {
            app.update(looked);
            is_shown = false;
        }
        if !is_shown {
            terminal.draw(|frame| screen::draw(frame, &app, palette)).map_err(failed)?;
            is_shown = true;
        }
        if interrupt.is_set() {
            return Err(Failure::Interrupted);
        }
        if event::poll(TURN).map_err(failed)? {
            // Keys, and a terminal of another size.
            is_shown = false;
            if let Event::Key(key) = event::read().map_err(failed)?
                && !app.key(key)
            {
                return Ok(());
            }
        }
    }
}

type Looked = Result<Look, String>;
/// Streams whose subscriptions are asked for; `None`: of the first ones.
type Wanted = Option<Vec<String>>;

/// The thread that asks the broker, seen from the one that has the terminal. It ends with the process.
struct Asker {
    wanted: Sender<Wanted>,
    looks: Receiver<Looked>,
    /// When it was asked last.
    asked_at: Option<Instant>,
    is_asking: bool,
}

impl Asker {
    fn start(connection: Connection, directory: &Path) -> Result<Self, Failure> {
        let (wanted, wishes) = channel::<Wanted>();
        let (found, looks) = channel();
        let directory = directory.to_owned();
        let mut connection = Some(connection);
        let began = Instant::now();
        let ask = move || {
            for wish in wishes {
                let looked = ask(&mut connection, &directory, wish, began);
                if found.send(looked).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("asker".to_owned())
            .spawn(ask)
            .map_err(|error| Failure::new(format!("cannot start a thread: {error}")))?;
        Ok(Self { wanted, looks, asked_at: None, is_asking: false })
    }

    /// The look that has come, if one has; asks for the next when it is time.
    fn turn(&mut self, app: &App) -> Result<Option<Looked>, Failure> {
        let ended = || Failure::new("the thread that asks the broker has ended");
        if !self.is_asking && self.asked_at.is_none_or(|at| at.elapsed() >= app.interval) {
            self.wanted.send(app.wanted()).map_err(|_| ended())?;
            self.is_asking = true;
            self.asked_at = Some(Instant::now());
        }
        match self.looks.try_recv() {
            Ok(looked) => {
                self.is_asking = false;
                Ok(Some(looked))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(ended()),
        }
    }
}

/// Opens the connection anew where it has ended.
fn ask(connection: &mut Option<Connection>, directory: &Path, wanted: Wanted, began: Instant) -> Looked {
    let open = match connection.take() {
        Some(open) => open,
        None => crate::connect_to(directory).map_err(|error| error.to_string())?,
    };
    let looked = look(&open, wanted, began).map_err(|error| error.to_string());
    if open.is_open() {
        *connection = Some(open);
    }
    looked
}

fn look(connection: &Connection, wanted: Wanted, began: Instant) -> Result<Look, AdminError> {
    let streams = connection.streams()?.into_iter().map(|stream| (stream.name.clone(), stream));
    let streams: BTreeMap<_, _> = streams.collect();
    let at = began.elapsed();
    let wanted = wanted.unwrap_or_else(|| {
        let with_some = streams.values().filter(|stream| stream.subscriptions > 0);
        with_some.map(|stream| stream.name.clone()).take(app::ASKED_MAX).collect()
    });
    let asked = wanted.into_iter().filter_map(|name| match connection.subscriptions(&name) {
        Ok(subscriptions) => Some(Ok((name, subscriptions))),
        // Deleted a moment ago.
        Err(AdminError::Refused(_)) => None,
        Err(error) => Some(Err(error)),
    });
    let subscriptions = asked.collect::<Result<_, _>>()?;
    Ok(Look { at, broker_pid: connection.broker_pid(), shards: connection.shards(), streams, subscriptions })
}
