//! `ringway completions` and `ringway man`: what shells and `man` want to know, from the definition of the commands themselves.
//!
//! What always holds: commands that are hidden are in neither, and all others in both.

use std::io::{self, Write};
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::exit::Failure;
use crate::output::{count, print};

/// Prints the completions of a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    print(&String::from_utf8_lossy(&script(args.shell)))
}

/// Writes a page for each command.
pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    let failed =
        |path: &Path, error: io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    let pages = pages().map_err(|error| failed(&args.out, error))?;
    std::fs::create_dir_all(&args.out).map_err(|error| failed(&args.out, error))?;
    for (name, page) in &pages {
        let path = args.out.join(name);
        std::fs::write(&path, page).map_err(|error| failed(&path, error))?;
    }
    print(&format!("ringway: wrote {} to {}\n", count(pages.len() as u64, "page"), args.out.display()))
}

/// The command as users see it.
fn visible(command: &Command) -> Command {
    let seen = command.get_subcommands().filter(|command| !command.is_hide_set()).map(visible);
    let rest = command.get_arguments().filter(|argument| !argument.is_hide_set()).cloned();
    let mut shown = Command::new(command.get_name().to_owned()).args(rest).subcommands(seen);
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        shown = shown.long_about(about.clone());
    }
    if let Some(after) = command.get_after_help() {
        shown = shown.after_help(after.clone());
    }
    shown.version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let mut command = visible(&Cli::command());
    clap_complete::generate(shell, &mut command, "ringway", &mut script);
    script
}

/// Their names and contents.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = visible(&Cli::command());
    command.build();
    let mut pages = Vec::new();
    add_pages(&command, &mut pages)?;
    Ok(pages)
}

fn add_pages(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let man =
        Man::new(command.clone()).manual("Ringway").source(concat!("Ringway ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(after) = command.get_after_help() {
        write!(page, "{}", notes(&after.to_string()))?;
    }
    pages.push((man.get_filename(), page));
    command.get_subcommands().try_for_each(|command| add_pages(command, pages))
}

/// What comes behind the options of a help, as sections: its paragraphs, and each of its lists as it is.
fn notes(text: &str) -> String {
    let mut page = ".SH NOTES\n".to_owned();
    let mut is_list = false;
    for line in text.lines() {
        let escaped = line.replace('\\', "\\e").replace('-', "\\-");
        match line.strip_suffix(':').filter(|title| !title.contains(' ') || *title == "Exit codes") {
            Some(title) => {
                page.push_str(if is_list { ".fi\n" } else { "" });
                page.push_str(&format!(".SH {}\n.nf\n", title.to_uppercase()));
                is_list = true;
            }
            None if line.is_empty() && !is_list => page.push_str(".PP\n"),
            // What begins with one of these would be an instruction.
            None if line.starts_with(['.', '\'']) => page.push_str(&format!("\\&{escaped}\n")),
            None => page.push_str(&format!("{escaped}\n")),
        }
    }
    page.push_str(if is_list { ".fi\n" } else { "" });
    // Nothing stood before the first list.
    page.strip_prefix(".SH NOTES\n")
        .filter(|rest| rest.starts_with(".SH "))
        .map_or(page.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    /// All commands that users see, by their words: "stream create".
    fn commands(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
        found.push((words.to_owned(), command.clone()));
        for part in command.get_subcommands().filter(|part| !part.is_hide_set() && part.get_name() != "help")
        {
            commands(part, format!("{words} {}", part.get_name()).trim(), found);
        }
    }

    fn all() -> Vec<(String, Command)> {
        let mut found = Vec::new();
        commands(&Cli::command(), "", &mut found);
        assert!(found.len() > 20);
        found
    }

    #[test]
    fn every_command_has_examples_that_begin_with_it() {
        for (words, command) in all() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let (_, examples) =
                help.split_once("Examples:\n").unwrap_or_else(|| panic!("{words} has no examples"));
            let own = format!("ringway {words}");
            assert!(
                examples.lines().any(|line| line.starts_with("  ") && line.contains(own.trim())),
                "{words}: {examples}"
            );
        }
    }

    #[test]
    fn every_command_has_a_page_and_the_hidden_have_none() {
        let pages = pages().unwrap();
        let mut expected: Vec<_> = all()
            .iter()
            .map(|(words, _)| format!("ringway {words}").trim().replace(' ', "-") + ".1")
            .collect();
        let mut names: Vec<_> = pages.iter().map(|(name, _)| name.clone()).collect();
        expected.sort();
        names.sort();
        assert_eq!(names, expected);
        for (name, page) in &pages {
            let page = String::from_utf8(page.clone()).unwrap();
            assert!(
                page.contains(".TH") && page.contains(".SH NAME") && page.contains(".SH EXAMPLES\n.nf\n  "),
                "{name}: {page}"
            );
            assert!(
                !page.contains("demo\\-producer")
                    && page.matches(".nf\n").count() == page.matches(".fi\n").count()
            );
        }
    }

    #[test]
    fn every_shell_completes_every_command_and_none_that_is_hidden() {
        let words: Vec<_> =
            all().into_iter().filter_map(|(words, _)| words.rsplit(' ').next().map(str::to_owned)).collect();
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell)).unwrap();
            assert!(words.iter().all(|word| script.contains(word.as_str())), "{shell}");
            assert!(!script.contains("demo-producer") && !script.contains("bench-role"), "{shell}");
            assert!(script.contains("--dir") || script.contains("dir"), "{shell}");
        }
    }

    #[test]
    fn lists_stay_as_they_are_and_paragraphs_are_filled() {
        let text =
            "A text,\non two lines.\n\n.second\n\nExamples:\n  ringway x --y\n\nExit codes:\n  0  done";
        assert_eq!(
            notes(text),
            ".SH NOTES\nA text,\non two lines.\n.PP\n\\&.second\n.PP\n.SH EXAMPLES\n.nf\n  ringway x \\-\\-y\n\n.fi\n\
             .SH EXIT CODES\n.nf\n  0  done\n.fi\n"
        );
        assert_eq!(notes("Examples:\n  x"), ".SH EXAMPLES\n.nf\n  x\n.fi\n");
    }
}
