//! `postern queue`: what waits and why, and what the administrator may do about it.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use lexopt::Arg::{Long, Short, Value};
use lexopt::Parser;

use super::{Failure, tool};
use crate::config;
use crate::spool::MessageId;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Queue {
    config: PathBuf,
    task: Task,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    List { is_json: bool },
    Show(MessageId),
    RetryAll,
    Retry(MessageId),
    Remove { which: Which, is_sure: bool },
    Help,
}

/// Which messages are to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    One(MessageId),
    All,
}

impl Queue {
    /// The list of all.
    pub(super) fn list(config: PathBuf) -> Self {
        Self { config, task: Task::List { is_json: false } }
    }

    /// Reads what stands behind `queue`.
    pub(super) fn parse(parser: &mut Parser) -> Result<Self, Failure> {
        let mut config = PathBuf::from(config::PATH_DEFAULT);
        let (mut is_json, mut is_all, mut is_sure) = (false, false, false);
        let mut words = Vec::new();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("config") => config = parser.value()?.into(),
                Long("json") => is_json = true,
                Long("all") => is_all = true,
                Long("yes") => is_sure = true,
                Long("help") | Short('h') => return Ok(Self { config, task: Task::Help }),
                Value(word) if words.len() < 2 => words.push(word.to_string_lossy().into_owned()),
                other @ (Long(_) | Short(_) | Value(_)) => return Err(other.unexpected().into()),
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let id = |word: &str| {
            let wrong =
                || Failure::usage(format_args!("{word:?} is no message's id, as \"postern queue\" shows"));
            MessageId::parse(word.as_bytes()).ok_or_else(wrong)
        };
        let task = match words[..] {
            [] => Task::List { is_json },
            ["show", word] => Task::Show(id(word)?),
            ["retry"] => Task::RetryAll,
            ["retry", word] => Task::Retry(id(word)?),
            ["remove"] if is_all => Task::Remove { which: Which::All, is_sure },
            ["remove", word] if !is_all => Task::Remove { which: Which::One(id(word)?), is_sure },
            ["show" | "remove"] => {
                return Err(Failure::usage(format_args!("{}: which message is not said", words[0])));
            }
            _ => return Err(Failure::usage(format_args!("queue: there is no task {:?}", words.join(" ")))),
        };
        let removes = matches!(task, Task::Remove { .. });
        if is_json && !matches!(task, Task::List { .. }) || (is_all || is_sure) && !removes {
            return Err(Failure::usage("queue: an option is given that belongs to another task"));
        }
        Ok(Self { config, task })
    }

    /// True when only the help is asked for.
    pub(super) fn is_for_help(&self) -> bool {
        self.task == Task::Help
    }

    /// Asks the relay.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let request = match self.task {
            Task::List { is_json: false } | Task::Help => "queue".to_owned(),
            Task::List { is_json: true } => "queue json".to_owned(),
            Task::Show(id) => format!("show {id}"),
            Task::RetryAll => "retry".to_owned(),
            Task::Retry(id) => format!("retry {id}"),
            Task::Remove { which, is_sure } => {
                let (question, request) = match which {
                    Which::One(id) => (format!("Remove {id}? It will not be sent."), format!("remove {id}")),
                    Which::All => {
                        let question = "Remove all messages of the spool? None of them will be sent.";
                        (question.to_owned(), "remove all".to_owned())
                    }
                };
                if !is_sure && !confirm(&question)? {
                    return Ok(());
                }
                request
            }
        };
        tool::ask(&self.config, &request)
    }
}

/// Asks at a terminal; elsewhere who calls is sure.
fn confirm(question: &str) -> Result<bool, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Ok(true);
    }
    let failed = |error: io::Error| Failure::io("the terminal", &error);
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).map_err(failed)?;
    let mut answer = String::new();
    stdin.read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn parsed(line: &str) -> Result<Queue, u8> {
        let mut parser = Parser::from_args(line.split_whitespace().map(OsString::from));
        Queue::parse(&mut parser).map_err(|failure| failure.code)
    }

    #[test]
    fn tasks() {
        let id = MessageId { epoch: 1, counter: 0x2a };
        for (line, task) in [
            ("", Task::List { is_json: false }),
            ("--json", Task::List { is_json: true }),
            ("show 1-2a", Task::Show(id)),
            ("retry", Task::RetryAll),
            ("retry 1-2a", Task::Retry(id)),
            ("remove 1-2a", Task::Remove { which: Which::One(id), is_sure: false }),
            ("remove --yes --all", Task::Remove { which: Which::All, is_sure: true }),
            ("--help", Task::Help),
        ] {
            assert_eq!(parsed(line).map(|queue| queue.task), Ok(task), "{line}");
        }
        assert_eq!(parsed("retry --config x").unwrap().config, PathBuf::from("x"));
        let wrong = ["show", "show all", "remove", "remove --all 1-2a", "retry --all", "show 1-2a --json"];
        for line in
            wrong.into_iter().chain(["flush", "retry 1-2a 1-2b", "--yes", "--nothing", "retry retry x"])
        {
            assert_eq!(parsed(line), Err(super::super::EXIT_USAGE), "{line}");
        }
    }
}
