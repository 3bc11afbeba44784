//! `ringway completions` and `ringway man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

pub(super) const COMPLETIONS_AFTER: &str = "\
Examples:
  ringway completions bash > /etc/bash_completion.d/ringway
  ringway completions zsh > ~/.zfunc/_ringway
  ringway completions fish > ~/.config/fish/completions/ringway.fish";

pub(super) const MAN_AFTER: &str = "\
Examples:
  ringway man --out /usr/local/share/man/man1
  ringway man --out man && man -l man/ringway-stream-create.1";

/// Arguments of `ringway completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Arguments of `ringway man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Directory to write them to; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}
