//! What a file, the environment and options say, and what is wrong with it.

use super::*;

fn sources(text: &str) -> (tempfile::TempDir, Sources) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringway.toml");
    std::fs::write(&path, text).unwrap();
    let sources = Sources { file: Some(path), directory_default: Some("/d".into()), ..Sources::default() };
    (directory, sources)
}

fn variables(given: &[(&str, &str)]) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    given.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// What is said to be wrong, without the path of the file.
fn problems(sources: &Sources) -> Vec<String> {
    let ConfigError::Wrong(problems) = Config::load_from(sources).unwrap_err() else { panic!("not wrong") };
    let file = sources.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    problems.iter().map(|problem| problem.to_string().replace(&file, "FILE")).collect()
}

#[track_caller]
fn assert_wrong(text: &str, expected: &str) {
    let (_directory, sources) = sources(text);
    assert_eq!(problems(&sources), [expected], "{text}");
}

#[test]
fn a_file_is_read_and_the_given_directory_goes_over_it() {
    let core = allowed_cores()[0];
    let text = format!("directory = '/x'\ncores = [{core}]\nsessions_max = 7\nallowed_uids = [1_000]");
    let (_directory, sources) = sources(&text);
    assert_eq!(
        Config::load(sources.file.as_deref(), None).unwrap(),
        Config {
            directory: "/x".into(),
            data: "/x/data".into(),
            segment_bytes: 64 << 20,
            runtime: RuntimeChoice::Auto,
            cores: vec![core],
            sessions_max: 7,
            hello_timeout_ms: 5000,
            payload_bytes_max: 16 << 20,
            allowed_uids: vec![1000],
            allowed_gids: Vec::new(),
            log: "warn".to_owned(),
            log_format: LogFormat::Human,
        }
    );
    let given = Config::load(None, Some("/y".into())).unwrap();
    assert_eq!((given.directory, given.cores.len()), ("/y".into(), 1));
    assert!(matches!(Config::load(None, None), Err(ConfigError::NoDirectory)));
}

#[test]
fn the_environment_goes_over_the_file_and_options_over_both_and_each_says_where_it_was_said() {
    let (_directory, mut sources) =
        sources("\nsessions_max = 1\nhello_timeout_ms = 2\n\nlog = 'info'\nallowed_gids = []");
    sources.variables = variables(&[
        ("RINGWAY_SESSIONS_MAX", "3"),
        ("RINGWAY_HELLO_TIMEOUT_MS", "4"),
        ("RINGWAY_LOG", ""),
        ("RINGWAY_TEST_SOMETHING", "x"),
        ("PATH", "/bin"),
    ]);
    sources.flags =
        vec![("sessions_max", "5".into()), ("log_format", "json".into()), ("allowed_uids", "none".into())];
    let (config, settings) = Config::load_from(&sources).unwrap();
    assert_eq!((config.sessions_max, config.hello_timeout_ms), (5, 4));
    assert_eq!((config.log.as_str(), config.log_format), ("info", LogFormat::Json));
    let file = sources.file.unwrap().display().to_string();
    let of = |name: &str| {
        let setting = settings.iter().find(|setting| setting.key.name == name).unwrap();
        format!("{} {}", setting.value, setting.origin).replace(&file, "FILE")
    };
    assert_eq!(of("sessions_max"), "5 --sessions-max");
    assert_eq!(of("hello_timeout_ms"), "4 RINGWAY_HELLO_TIMEOUT_MS");
    assert_eq!(of("log"), "info FILE:5");
    assert_eq!(of("allowed_gids"), "none FILE:6");
    assert_eq!(of("allowed_uids"), "none --allowed-uids");
    assert_eq!(of("runtime"), "auto default");
    assert_eq!(settings.len(), KEYS.len());
}

#[test]
fn journals_are_in_a_directory_that_the_broker_was_given_and_where_state_is_kept_else() {
    let data = |file: &str, variable: Option<&str>, flag: Option<&str>| {
        let (_directory, mut sources) = sources(file);
        sources.data_default = Some("/state".into());
        sources.variables =
            variables(&variable.map(|value| ("RINGWAY_DIR", value)).into_iter().collect::<Vec<_>>());
        sources.flags = flag.map(|value| ("directory", value.into())).into_iter().collect();
        let config = Config::load_from(&sources).unwrap().0;
        format!("{} {}", config.directory.display(), config.data.display())
    };
    assert_eq!(data("", None, None), "/d /state");
    assert_eq!(data("directory = '/f'", None, None), "/f /f/data");
    assert_eq!(data("directory = '/f'", Some("/v"), None), "/v /state");
    assert_eq!(data("directory = '/f'", Some("/v"), Some("/o")), "/o /o/data");
    assert_eq!(data("data = '/j'", None, Some("/o")), "/o /j");
}

#[test]
fn what_is_not_known_is_named_with_its_line_and_what_was_probably_meant() {
    assert_wrong(
        "# settings\n\nsesions_max = 7",
        "FILE:3: unknown key sesions_max: did you mean sessions_max?",
    );
    assert_wrong("[broker]", &format!("FILE:1: unknown key broker: there are {}.", names()));
    assert_wrong("log = 'info'\nlog = 'warn'", "FILE:2: duplicate key");
    assert_wrong("log = ", "FILE:1: string values must be quoted, expected literal string");
    let (_directory, mut sources) = sources("");
    sources.variables = variables(&[("RINGWAY_CORSE", "1"), ("RINGWAY_\u{1b}[2J", "1")]);
    let found = problems(&sources);
    assert_eq!(
        found[0],
        "RINGWAY_CORSE: unknown variable: did you mean RINGWAY_CORES? Unset it if it is not meant for the broker."
    );
    assert!(!found[1].contains('\u{1b}'), "{}", found[1]);
}

fn names() -> String {
    KEYS.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_wrong_value_says_what_was_found_and_what_is_allowed() {
    assert_wrong("directory = 7", "FILE:1: directory must be a path, not 7");
    assert_wrong("data = ''", "FILE:1: data must be a path, not the text \"\"");
    assert_wrong("sessions_max = 0", "FILE:1: sessions_max must be a number from 1 to 4294967295, not 0");
    assert_wrong("sessions_max = -1", "FILE:1: sessions_max must be a number from 1 to 4294967295, not -1");
    assert_wrong("sessions_max = 1.5", "FILE:1: sessions_max must be a number from 1 to 4294967295, not 1.5");
    assert_wrong(
        "sessions_max = 'many'",
        "FILE:1: sessions_max must be a number from 1 to 4294967295, not the text \"many\"",
    );
    assert_wrong(
        "hello_timeout_ms = 3600001",
        "FILE:1: hello_timeout_ms must be a number from 1 to 3600000, not 3600001",
    );
    assert_wrong(
        "segment_bytes = 4096",
        "FILE:1: segment_bytes must be a number from 2101248 to 8589934592, not 4096",
    );
    assert_wrong("segment_bytes = 5000000", "FILE:1: segment_bytes must be a multiple of 4096, not 5000000");
    assert_wrong(
        "payload_bytes_max = 1073741825",
        "FILE:1: payload_bytes_max must be a number from 1 to 1073741824, not 1073741825",
    );
    assert_wrong(
        "runtime = 'fibres'",
        "FILE:1: runtime must be one of auto, io_uring, threads, not the text \"fibres\"",
    );
    assert_wrong("log_format = true", "FILE:1: log_format must be one of human, json, not true");
    assert_wrong(
        "allowed_uids = [4294967295]",
        "FILE:1: allowed_uids must be a list of numbers from 0 to 4294967294, not [4294967295]",
    );
    assert_wrong(
        "allowed_gids = [1, 'staff']",
        "FILE:1: allowed_gids must be a list of numbers from 0 to 4294967294, not a list with the text \"staff\"",
    );
    assert_wrong("cores = []", "FILE:1: cores must name at least one core, and none twice, not none");
    assert_wrong("cores = [0, 0]", "FILE:1: cores must name at least one core, and none twice, not 0,0");
    let allowed = allowed_cores().iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    assert_wrong(
        "cores = [999]",
        &format!("FILE:1: core 999 cannot be used: this process may run on cores {allowed}"),
    );
    let levels =
        "one of off, error, warn, info, debug, trace, or such for parts of the program (warn,PART=debug)";
    for wrong in ["loud", "warn,", "warn,=debug", "warn,x=loud"] {
        assert_wrong(
            &format!("log = '{wrong}'"),
            &format!("FILE:1: log must be {levels}, not the text \"{wrong}\""),
        );
    }
}

#[test]
fn every_mistake_is_said_at_once_in_variables_and_options_too() {
    let (_directory, mut sources) = sources("cores = 'all'\nruntim = 'auto'");
    sources.variables = variables(&[("RINGWAY_ALLOWED_UIDS", "1000;1001")]);
    sources.flags = vec![("cores", "0,x".into()), ("log", "info,ringway_broker::journal=debug".into())];
    assert_eq!(
        problems(&sources),
        [
            "FILE:1: cores must be a list of numbers from 0 to 65535, not the text \"all\"",
            "FILE:2: unknown key runtim: did you mean runtime?",
            "RINGWAY_ALLOWED_UIDS: allowed_uids must be a list of numbers from 0 to 4294967294, not \"1000;1001\"",
            "--cores: cores must be a list of numbers from 0 to 65535, not \"0,x\"",
        ]
    );
    let missing = Config::load(Some(Path::new("/nonexistent/x.toml")), None).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/x.toml"));
}
