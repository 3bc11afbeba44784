//! Where a broker is looked for when nothing else is said.
//!
//! The same rule for the broker and for all its clients, so that both meet without configuration. It reads
//! the environment and nothing else: the directory need not exist.

use std::ffi::OsString;
use std::path::PathBuf;

/// Environment variable that names the broker's directory.
pub const VARIABLE: &str = "RINGWAY_DIR";

/// The broker's directory: `RINGWAY_DIR`, else `ringway` in `XDG_RUNTIME_DIR`, else `/run/ringway` for root,
/// else `/tmp/ringway-UID`. An empty variable counts as not set.
pub fn default_directory() -> PathBuf {
    choose(|variable| std::env::var_os(variable), rustix::process::geteuid().as_raw())
}

/// Where a broker in the default directory has its journals: `/var/lib/ringway` for root, else `ringway` in `XDG_STATE_HOME`, else
/// in `.local/state` of `HOME`. An empty variable counts as not set.
pub fn default_data_directory() -> PathBuf {
    choose_data(|variable| std::env::var_os(variable), rustix::process::geteuid().as_raw())
}

fn choose_data(variable: impl Fn(&str) -> Option<OsString>, uid: u32) -> PathBuf {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if uid == 0 {
        return PathBuf::from("/var/lib/ringway");
    }
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    state.map_or_else(|| PathBuf::from(format!("/tmp/ringway-{uid}/data")), |state| state.join("ringway"))
}

fn choose(variable: impl Fn(&str) -> Option<OsString>, uid: u32) -> PathBuf {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(directory) = set(VARIABLE) {
        return directory;
    }
    if let Some(runtime) = set("XDG_RUNTIME_DIR") {
        return runtime.join("ringway");
    }
    if uid == 0 { PathBuf::from("/run/ringway") } else { PathBuf::from(format!("/tmp/ringway-{uid}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(ringway: &str, runtime: &str, uid: u32) -> String {
        let variable = |name: &str| match name {
            VARIABLE => Some(OsString::from(ringway)),
            "XDG_RUNTIME_DIR" => Some(OsString::from(runtime)),
            _ => None,
        };
        choose(variable, uid).into_os_string().into_string().unwrap()
    }

    #[test]
    fn journals_are_where_state_is_kept() {
        let chosen = |state: &str, home: &str, uid| {
            let variable = |name: &str| match name {
                "XDG_STATE_HOME" => Some(OsString::from(state)),
                "HOME" => Some(OsString::from(home)),
                _ => None,
            };
            choose_data(variable, uid).into_os_string().into_string().unwrap()
        };
        assert_eq!(chosen("/s", "/h", 0), "/var/lib/ringway");
        assert_eq!(chosen("/s", "/h", 7), "/s/ringway");
        assert_eq!(chosen("", "/h", 7), "/h/.local/state/ringway");
        assert_eq!(chosen("", "", 7), "/tmp/ringway-7/data");
    }

    #[test]
    fn the_most_particular_setting_wins_and_empty_ones_count_as_unset() {
        assert_eq!(chosen("/a", "/b", 7), "/a");
        assert_eq!(chosen("", "/b", 7), "/b/ringway");
        assert_eq!(chosen("", "", 7), "/tmp/ringway-7");
        assert_eq!(chosen("", "", 0), "/run/ringway");
        assert_eq!(choose(|_| None, 7), PathBuf::from("/tmp/ringway-7"));
    }
}
