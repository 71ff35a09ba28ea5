//! How what became of messages stands in the log, in entries and in files of its own. The values are those of
//! [`binary`](super::super::binary).

use forebay_storage::FileId;

use super::super::binary::{Field, Input, Output};
use crate::{
    MessageDetail, MessageError, MessageResult, MessageRun, MessageSource, Messages, Progress, Severity, Tally,
};

/// A detail takes no more than about so many bytes: what is beyond is left out.
const DETAIL_BYTES: usize = 4 << 10;
/// No more of one text.
const TEXT_BYTES: usize = 512;

/// A record of the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    /// A file is handed over message by message, from its beginning.
    Begun(FileId, MessageSource),
    /// Outcomes, and where the file stands with them.
    Advanced(FileId, Vec<MessageRun>, u64, u64),
    /// What became of the messages is kept elsewhere, or nobody wants it.
    Ended(FileId),
    /// All that is known of a file, in the place of its records before.
    Anew(FileId, MessageSource, Vec<MessageRun>, u64, u64),
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Output::new(64);
        match self {
            Self::Begun(id, source) => {
                out.byte(1);
                id.put(&mut out);
                out.number(source.messages);
                source.sha256.put(&mut out);
            }
            Self::Advanced(id, runs, next, offset) => {
                out.byte(2);
                id.put(&mut out);
                out.number(*next);
                out.number(*offset);
                put_runs(runs, &mut out);
            }
            Self::Ended(id) => {
                out.byte(3);
                id.put(&mut out);
            }
            Self::Anew(id, source, runs, next, offset) => {
                out.byte(4);
                id.put(&mut out);
                out.number(source.messages);
                source.sha256.put(&mut out);
                out.number(*next);
                out.number(*offset);
                put_runs(runs, &mut out);
            }
        }
        out.bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input::new(bytes);
        let kind = input.byte()?;
        let id = FileId::take(&mut input)?;
        let record = match kind {
            1 => Self::Begun(id, MessageSource { messages: input.number()?, sha256: Field::take(&mut input)? }),
            2 => {
                let (next, offset) = (input.number()?, input.number()?);
                Self::Advanced(id, take_runs(&mut input)?, next, offset)
            }
            3 => Self::Ended(id),
            4 => {
                let source = MessageSource { messages: input.number()?, sha256: Field::take(&mut input)? };
                let (next, offset) = (input.number()?, input.number()?);
                Self::Anew(id, source, take_runs(&mut input)?, next, offset)
            }
            _ => return None,
        };
        input.whole(record)
    }
}

/// Runs as bytes, and back.
pub(super) fn encode_runs(runs: &[MessageRun]) -> Vec<u8> {
    let mut out = Output::new(64);
    put_runs(runs, &mut out);
    out.bytes
}

pub(super) fn decode_runs(bytes: &[u8]) -> Option<Vec<MessageRun>> {
    let mut input = Input::new(bytes);
    let runs = take_runs(&mut input)?;
    input.whole(runs)
}

fn put_runs(runs: &[MessageRun], out: &mut Output) {
    out.number(runs.len() as u64);
    for run in runs {
        out.number(run.first);
        out.number(run.count);
        out.byte(number_of(run.result));
        match &run.detail {
            None => out.byte(0),
            Some(detail) => {
                out.byte(1);
                out.text(&detail.text);
                out.number(detail.errors.len() as u64);
                for error in &detail.errors {
                    out.text(&error.at);
                    out.number(u64::from(error.code));
                    out.byte(severity_number(error.severity));
                    out.text(&error.text);
                    out.byte(u8::from(error.is_ours));
                }
            }
        }
    }
}

fn take_runs(input: &mut Input<'_>) -> Option<Vec<MessageRun>> {
    let mut runs = Vec::new();
    for _ in 0..input.number()? {
        let (first, count) = (input.number()?, input.number()?);
        let result = result_of(input.byte()?)?;
        let detail = match input.byte()? {
            0 => None,
            1 => Some(take_detail(input)?),
            _ => return None,
        };
        runs.push(MessageRun { first, count, result, detail });
    }
    Some(runs)
}

fn take_detail(input: &mut Input<'_>) -> Option<MessageDetail> {
    let (text, mut errors) = (input.text()?, Vec::new());
    for _ in 0..input.number()? {
        errors.push(MessageError {
            at: input.text()?,
            code: u32::try_from(input.number()?).ok()?,
            severity: severity_of(input.byte()?)?,
            text: input.text()?,
            is_ours: match input.byte()? {
                0 => false,
                1 => true,
                _ => return None,
            },
        });
    }
    Some(MessageDetail { text, errors })
}

/// Numbers are never used again for something else.
fn number_of(result: MessageResult) -> u8 {
    match result {
        MessageResult::Accepted => 1,
        MessageResult::Tested => 2,
        MessageResult::Duplicate => 3,
        MessageResult::Skipped => 4,
        MessageResult::Refused => 5,
        MessageResult::Rejected => 6,
    }
}

fn result_of(number: u8) -> Option<MessageResult> {
    MessageResult::ALL.into_iter().find(|result| number_of(*result) == number)
}

fn severity_number(severity: Severity) -> u8 {
    match severity {
        Severity::Error => 1,
        Severity::Warning => 2,
        Severity::Information => 3,
    }
}

fn severity_of(number: u8) -> Option<Severity> {
    [Severity::Error, Severity::Warning, Severity::Information]
        .into_iter()
        .find(|severity| severity_number(*severity) == number)
}

/// Cuts what a detail says to its bounds: sinks' texts have no end of their own.
pub(super) fn bounded(mut run: MessageRun) -> MessageRun {
    let cut = |text: &mut String| text.truncate(text.floor_char_boundary(TEXT_BYTES));
    if let Some(detail) = &mut run.detail {
        cut(&mut detail.text);
        let mut bytes = detail.text.len();
        detail.errors.retain_mut(|error| {
            cut(&mut error.text);
            cut(&mut error.at);
            bytes += error.text.len() + error.at.len() + 8;
            bytes <= DETAIL_BYTES
        });
    }
    run
}

impl Field for Messages {
    fn put(&self, out: &mut Output) {
        let Progress { messages, next, offset, tally } = self.progress;
        let Tally { accepted, tested, duplicate, skipped, refused, rejected } = tally;
        for number in [messages, next, offset, accepted, tested, duplicate, skipped, refused, rejected] {
            out.number(number);
        }
        match &self.outcomes {
            None => out.byte(0),
            Some(bytes) => {
                out.byte(1);
                out.number(bytes.len() as u64);
                out.bytes.extend_from_slice(bytes);
            }
        }
    }

    fn take(input: &mut Input<'_>) -> Option<Self> {
        let mut numbers = [0; 9];
        for number in &mut numbers {
            *number = input.number()?;
        }
        let [messages, next, offset, accepted, tested, duplicate, skipped, refused, rejected] = numbers;
        let tally = Tally { accepted, tested, duplicate, skipped, refused, rejected };
        let outcomes = match input.byte()? {
            0 => None,
            1 => {
                let length = usize::try_from(input.number()?).ok()?;
                let (bytes, rest) = input.bytes.split_at_checked(length)?;
                input.bytes = rest;
                Some(bytes.to_vec())
            }
            _ => return None,
        };
        Some(Self { progress: Progress { messages, next, offset, tally }, outcomes })
    }
}

#[cfg(test)]
mod tests {
    use forebay_storage::Sha256;

    use super::*;

    #[test]
    fn records_are_read_as_they_were_written_and_cut_ones_not_at_all() {
        let id = FileId::from_bytes([7; 16]);
        let error = MessageError {
            at: "PID-5.1".into(),
            code: 101,
            severity: Severity::Error,
            text: "no".into(),
            is_ours: true,
        };
        let detail = MessageDetail { text: "the name is missing".into(), errors: vec![error] };
        let runs = vec![
            MessageRun { first: 1, count: 900, result: MessageResult::Accepted, detail: None },
            MessageRun { first: 901, count: 1, result: MessageResult::Refused, detail: Some(detail) },
        ];
        for record in [
            Record::Begun(id, MessageSource { messages: 1_000, sha256: Sha256([3; 32]) }),
            Record::Advanced(id, runs.clone(), 902, 123_456),
            Record::Ended(id),
            Record::Anew(id, MessageSource { messages: 1_000, sha256: Sha256([3; 32]) }, runs, 902, 123_456),
        ] {
            let bytes = record.encode();
            assert_eq!(Record::decode(&bytes), Some(record));
            for end in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..end]), None);
            }
            assert_eq!(Record::decode(&[&bytes[..], &[0]].concat()), None);
        }
    }

    #[test]
    fn a_group_of_sixty_four_takes_few_bytes() {
        let runs = vec![MessageRun { first: 1_000_000, count: 64, result: MessageResult::Accepted, detail: None }];
        let record = Record::Advanced(FileId::from_bytes([7; 16]), runs, 1_000_064, 5 << 30);
        assert!(record.encode().len() < 40, "{}", record.encode().len());
    }

    #[test]
    fn what_a_sink_says_is_cut() {
        let error = MessageError {
            at: "x".repeat(5_000),
            code: 1,
            severity: Severity::Error,
            text: "ü".repeat(5_000),
            is_ours: false,
        };
        let detail = MessageDetail { text: "y".repeat(1 << 20), errors: vec![error; 1_000] };
        let run = MessageRun { first: 1, count: 1, result: MessageResult::Refused, detail: Some(detail) };
        assert!(encode_runs(&[bounded(run)]).len() < 5 << 10);
    }
}
