//! What is being looked at, and what a key does to that. Pure: keys and looks in, nothing out but the wish to end.
//!
//! 1. The chosen stream is known by its name: it stays chosen when the order changes, until it is gone.
//! 2. Of streams with subscriptions, at most [`ASKED_MAX`] are asked about theirs in a look, those first that are shown first.

use std::cmp::Ordering;
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::columns::Column;
use super::model::{Look, Model, StreamRow};

/// See the module.
pub(crate) const ASKED_MAX: usize = 256;

/// What fills the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Streams,
    /// One of them.
    Stream(String),
    Shards,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) model: Model,
    pub(crate) directory: String,
    pub(crate) interval: Duration,
    pub(crate) view: View,
    pub(crate) sorted_by: Column,
    pub(crate) is_reversed: bool,
    pub(crate) filter: String,
    pub(crate) edits_filter: bool,
    pub(crate) shows_help: bool,
    /// Why the last look failed.
    pub(crate) trouble: Option<String>,
    chosen: Option<String>,
}

impl App {
    pub(crate) fn new(directory: String, interval: Duration) -> Self {
        Self {
            model: Model::default(),
            directory,
            interval,
            view: View::Streams,
            sorted_by: Column::Name,
            is_reversed: false,
            filter: String::new(),
            edits_filter: false,
            shows_help: false,
            trouble: None,
            chosen: None,
        }
    }

    /// Takes a look, or the reason why there was none.
    pub(crate) fn update(&mut self, look: Result<Look, String>) {
        self.trouble = match look {
            Ok(look) => {
                self.model.update(look);
                None
            }
            Err(reason) => Some(reason),
        };
    }

    /// The streams that the filter lets through, in order.
    pub(crate) fn rows(&self) -> Vec<StreamRow> {
        let filter = self.filter.to_lowercase();
        let mut rows = self.model.streams();
        rows.retain(|row| row.name.to_lowercase().contains(&filter));
        // Stable: those that are equal stay in order of their names.
        rows.sort_by(|one, other| {
            let order = self.sorted_by.compare(one, other);
            if self.is_reversed { order.reverse() } else { order }
        });
        rows
    }

    /// Which row is chosen.
    pub(crate) fn chosen_row(&self, rows: &[StreamRow]) -> Option<usize> {
        let chosen = rows.iter().position(|row| Some(&row.name) == self.chosen.as_ref());
        chosen.or((!rows.is_empty()).then_some(0))
    }

    /// The streams whose subscriptions the next look shall ask for; `None` before the first.
    pub(crate) fn wanted(&self) -> Option<Vec<String>> {
        self.model.now()?;
        let looked_into = match &self.view {
            View::Stream(name) => Some(name.clone()),
            _ => None,
        };
        let shown = self.rows().into_iter().filter(|row| row.subscriptions > 0).map(|row| row.name);
        let shown = shown.filter(|name| Some(name) != looked_into.as_ref());
        Some(looked_into.iter().cloned().chain(shown).take(ASKED_MAX).collect())
    }

    /// Does what a key says; false: end.
    pub(crate) fn key(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return true;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && key.code == KeyCode::Char('c') {
            return false;
        }
        if self.edits_filter {
            self.edit_filter(key.code);
            return true;
        }
        if std::mem::take(&mut self.shows_help) {
            return true;
        }
        match key.code {
            KeyCode::Char('q') => return false,
            KeyCode::Char('?' | 'h') => self.shows_help = true,
            KeyCode::Char('/') => {
                self.view = View::Streams;
                self.edits_filter = true;
            }
            KeyCode::Char('<') | KeyCode::Left => self.sorted_by = self.sorted_by.neighbour(-1),
            KeyCode::Char('>') | KeyCode::Right => self.sorted_by = self.sorted_by.neighbour(1),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Down | KeyCode::Char('j') => self.choose(1),
            KeyCode::Up | KeyCode::Char('k') => self.choose(-1),
            KeyCode::PageDown => self.choose(10),
            KeyCode::PageUp => self.choose(-10),
            KeyCode::Home => self.choose(isize::MIN),
            KeyCode::End => self.choose(isize::MAX),
            KeyCode::Enter if self.view == View::Streams => {
                let rows = self.rows();
                if let Some(row) = self.chosen_row(&rows) {
                    self.view = View::Stream(rows[row].name.clone());
                }
            }
            KeyCode::Esc if self.view == View::Streams => self.filter.clear(),
            KeyCode::Esc | KeyCode::Backspace => self.view = View::Streams,
            KeyCode::Tab => self.view = if self.view == View::Shards { View::Streams } else { View::Shards },
            _ => {}
        }
        true
    }

    fn edit_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.edits_filter = false,
            KeyCode::Esc => {
                self.edits_filter = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
    }

    fn choose(&mut self, further: isize) {
        let rows = self.rows();
        if let Some(row) = self.chosen_row(&rows) {
            let row = row.saturating_add_signed(further).min(rows.len() - 1);
            self.chosen = Some(rows[row].name.clone());
        }
    }
}

/// Descending for numbers: the most first. What is not known comes last.
pub(super) fn most_first(one: Option<f64>, other: Option<f64>) -> Ordering {
    other.unwrap_or(-1.0).total_cmp(&one.unwrap_or(-1.0))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::model::tests::{look, stream, subscription};
    use super::*;

    pub(in super::super) fn app(streams: Vec<ringway_client::StreamInfo>) -> App {
        let mut app = App::new("/run/ringway".to_owned(), Duration::from_secs(1));
        app.update(Ok(look(0, streams, vec![])));
        app
    }

    pub(in super::super) fn press(app: &mut App, keys: &[KeyCode]) -> bool {
        keys.iter().all(|key| app.key(KeyEvent::from(*key)))
    }

    pub(in super::super) fn write(app: &mut App, text: &str) {
        text.chars().for_each(|letter| assert!(press(app, &[KeyCode::Char(letter)])));
    }

    fn names(app: &App) -> Vec<String> {
        app.rows().into_iter().map(|row| row.name).collect()
    }

    fn three() -> App {
        app(vec![
            stream("audit", 50, None),
            stream("jobs", 300, Some(("jobs", 9))),
            stream("Orders", 90, Some(("a", 70))),
        ])
    }

    #[test]
    fn streams_are_sorted_by_any_column_and_turned_around() {
        let mut app = three();
        assert_eq!(names(&app), ["audit", "jobs", "Orders"]);
        while app.sorted_by != Column::Behind {
            write(&mut app, ">");
        }
        assert_eq!(names(&app), ["Orders", "jobs", "audit"]);
        write(&mut app, "r");
        assert_eq!(names(&app), ["audit", "jobs", "Orders"]);
        for _ in Column::ALL {
            write(&mut app, "<");
        }
        assert_eq!(app.sorted_by, Column::Behind);
    }

    #[test]
    fn a_filter_is_typed_applied_and_cleared() {
        let mut app = three();
        write(&mut app, "/ORq");
        assert!(app.edits_filter && names(&app).is_empty());
        press(&mut app, &[KeyCode::Backspace, KeyCode::Enter]);
        assert_eq!((names(&app), app.edits_filter), (vec!["Orders".to_owned()], false));
        press(&mut app, &[KeyCode::Esc]);
        assert_eq!(names(&app).len(), 3);
        write(&mut app, "/x");
        press(&mut app, &[KeyCode::Esc]);
        assert_eq!((names(&app).len(), app.filter.as_str()), (3, ""));
    }

    #[test]
    fn the_chosen_stream_stays_chosen_until_it_is_gone() {
        let mut app = three();
        press(&mut app, &[KeyCode::Down]);
        write(&mut app, "r");
        assert_eq!(app.chosen_row(&app.rows()), Some(1));
        press(&mut app, &[KeyCode::End, KeyCode::Enter]);
        assert_eq!(app.view, View::Stream("audit".to_owned()));
        press(&mut app, &[KeyCode::Esc]);
        app.update(Ok(look(1, vec![stream("jobs", 1, None)], vec![])));
        assert_eq!(app.chosen_row(&app.rows()), Some(0));
        app.update(Ok(look(2, vec![], vec![])));
        assert!(press(&mut app, &[KeyCode::Down, KeyCode::Enter]) && app.view == View::Streams);
    }

    #[test]
    fn q_and_ctrl_c_end_it_and_q_in_a_filter_does_not() {
        let mut app = three();
        assert!(!press(&mut app, &[KeyCode::Char('q')]));
        write(&mut app, "/q");
        assert!(!app.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        press(&mut app, &[KeyCode::Esc, KeyCode::Char('?')]);
        assert!(app.shows_help);
        assert!(press(&mut app, &[KeyCode::Char('q')]) && !app.shows_help, "any key closes the help");
    }

    #[test]
    fn subscriptions_are_asked_for_where_there_are_some_and_of_so_many_streams_only() {
        let mut app = three();
        let wanted = |app: &App| app.wanted().unwrap();
        assert_eq!(wanted(&app), ["jobs", "Orders"]);
        app.view = View::Stream("audit".to_owned());
        assert_eq!(wanted(&app), ["audit", "jobs", "Orders"]);
        let many = (0..300).map(|number| stream(&format!("s{number:03}"), 0, Some(("a", 0)))).collect();
        app.update(Ok(look(1, many, vec![subscription("s000", "a", (0, 0), None)])));
        assert_eq!((wanted(&app).len(), wanted(&app)[1].as_str()), (ASKED_MAX, "s000"));
    }

    #[test]
    fn a_look_that_failed_leaves_what_was_seen_before() {
        let mut app = three();
        app.update(Err("the broker is gone".to_owned()));
        assert_eq!((names(&app).len(), app.trouble.as_deref()), (3, Some("the broker is gone")));
        app.update(Ok(look(1, vec![], vec![])));
        assert_eq!(app.trouble, None);
    }
}
