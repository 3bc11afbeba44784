//! What a check says, and how that is shown.

use serde::Serialize;

use crate::output::count;

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Ringway works, and not as well as it could.
    Warning,
    /// Something does not work.
    Problem,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) check: &'static str,
    /// How good it is.
    pub(crate) level: Level,
    /// What is there.
    pub(crate) found: String,
    /// Why it matters.
    pub(crate) why: &'static str,
    /// The command or setting that makes it better, where it can be better.
    pub(crate) fix: Option<String>,
}

/// A check that is about to be judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    /// Its name.
    pub(crate) name: &'static str,
    /// Why it matters.
    pub(crate) why: &'static str,
}

impl Check {
    /// As it should be.
    pub(crate) fn ok(self, found: impl Into<String>) -> Finding {
        self.finding(Level::Ok, found, None)
    }

    /// Could be better, by `fix`.
    pub(crate) fn warning(self, found: impl Into<String>, fix: impl Into<String>) -> Finding {
        self.finding(Level::Warning, found, Some(fix.into()))
    }

    /// Does not work before `fix` is done.
    pub(crate) fn problem(self, found: impl Into<String>, fix: impl Into<String>) -> Finding {
        self.finding(Level::Problem, found, Some(fix.into()))
    }

    fn finding(self, level: Level, found: impl Into<String>, fix: Option<String>) -> Finding {
        Finding { check: self.name, level, found: found.into(), why: self.why, fix }
    }
}

/// The report as text: a line for each finding, and the fix below it.
pub(crate) fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { check, level, found, why, fix } in findings {
        text.push_str(&format!("{:<7}  {check:<width$}  {found} ({why})\n", level.name()));
        if let Some(fix) = fix {
            text.push_str(&format!("{:<7}  {:<width$}  fix: {fix}\n", "", ""));
        }
    }
    let of = |level| findings.iter().filter(|finding| finding.level == level).count() as u64;
    let (warnings, problems) = (count(of(Level::Warning), "warning"), count(of(Level::Problem), "problem"));
    text.push_str(&format!("\n{}: {warnings}, {problems}\n", count(findings.len() as u64, "check")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fix_stands_below_what_it_is_for() {
        let check = Check { name: "cores", why: "they share" };
        let short = Check { name: "io", why: "slow" };
        let findings = [check.ok("8"), short.problem("none", "buy one")];
        assert_eq!(
            text(&findings),
            "ok       cores  8 (they share)\n\
             problem  io     none (slow)\n                fix: buy one\n\n\
             2 checks: 0 warnings, 1 problem\n"
        );
    }
}
