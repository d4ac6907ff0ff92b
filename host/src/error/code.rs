//! The situations that an operator may want to look up: the one table of them. `ERRORS.md` and
//! `pgshovel explain` are made of it.
//!
//! A number is never given to another situation, and a situation keeps its number: scripts and
//! alerts name it. A situation that is gone leaves a hole.

use std::fmt;

use super::next::Next;

/// What is to be known of a code.
#[derive(Debug)]
pub struct Situation {
    pub code: Code,
    /// What the caller may do next, the most usual first.
    pub nexts: &'static [Next],
    pub meaning: &'static str,
    pub cause: &'static str,
    pub remedy: &'static str,
}

macro_rules! codes {
    ($($number:literal $name:ident $nexts:tt, $meaning:literal, $cause:literal, $remedy:literal;)*) => {
        /// A situation, by its number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $meaning] $name = $number,)*
        }

        impl Code {
            /// As it is called in the sources.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }

        /// Sorted by number.
        pub const SITUATIONS: &[Situation] = {
            use Next::{Blocked, Bug, Configure, Retry, Stop, Trap, Usage};
            &[$(Situation { code: Code::$name, nexts: &$nexts, meaning: $meaning, cause: $cause, remedy: $remedy },)*]
        };
    };
}

/// What the numbers of a hundred have in common.
pub const GROUPS: [(u16, &str); 8] = [
    (1, "Command line, configuration files and this machine"),
    (2, "Registry (ZooKeeper)"),
    (3, "PostgreSQL and capture"),
    (4, "Stream"),
    (5, "Target"),
    (6, "Plugins"),
    (7, "Administration"),
    (9, "This program"),
];

// number name [what to do next] meaning, usual cause, remedy
codes! {
    101 Usage [Usage], "an option or an argument is wrong", "a slip on the command line", "see `pgshovel COMMAND --help`";
    102 NameInvalid [Usage], "a name cannot be a cluster's or a set's", "it is too long, or has a letter that ZooKeeper or PgQ uses itself", "choose a name of letters, digits, `-` and `_`";
    103 RegistryOptions [Usage], "the options for ZooKeeper are wrong, or contradict each other", "one of a pair was left out, or the hosts are no list of host:port", "give the option that the message names, or leave the other one out";
    104 FileUnreadable [Configure], "a configuration file cannot be read", "the path is wrong, another user owns the file, or it is no text", "give the path of a file that this user may read";
    105 YamlInvalid [Configure], "a configuration file is not valid YAML", "indentation, colons or quotes at the place that the message names", "mend the line that the message names";
    106 FieldInvalid [Configure], "a field of a configuration file is wrong", "a slip in its name, or a value of another kind", "mend the field that the message names";
    107 SetConfigurationInvalid [Configure], "the configuration of a set cannot be read", "a slip at the line that the message names", "mend it; `pgshovel set create --help` shows an example";
    108 PasswordExposed [Configure], "a connection string would store a password in ZooKeeper", "the password was written into the set's configuration", "leave it out, and give it to each process by PGPASSWORD, a password file or PGSHOVEL_SOURCE_DSN";
    109 SourceDsnInvalid [Configure], "--source-dsn is not to be used", "it is no connection string, or has a password and no host", "name the host that the password is for";
    110 CredentialsUnreadable [Configure], "the credentials for ZooKeeper cannot be read", "the file is not there, or a line of it is no scheme and credential", "mend the file and line that the message names";
    111 ListenFailed [Configure], "the address of --listen cannot be listened on", "another process has the port, or the address is not this machine's", "give another --listen";
    112 FolderRefused [Configure], "a folder that a plugin is granted cannot be given to it", "it is not there, this user may not use it, or it holds compiled plugins", "name another folder in grants.files";
    113 KafkaGrantInvalid [Configure], "a kafka grant is wrong", "a property is missing, or is one that the host sets itself", "mend the property that the message names";
    114 SystemRefused [Stop, Retry], "the operating system refuses what the process needs", "a limit of processes, of memory or of open files", "raise the limit that the message names (ulimit, pids.max)";
    115 OutputFailed [Stop], "standard output cannot be written to", "the disk is full, or a device failed", "write somewhere else";
    116 HttpGrantInvalid [Configure], "an http grant is wrong", "a certificate, a key or a header of it cannot be read or sent", "mend the file or the value that the message names";
    201 RegistryAway [Retry], "ZooKeeper does not answer", "it is down, the network is cut, or the hosts are wrong", "see that a server runs, and --zookeeper-hosts; it is tried again";
    202 RegistryDenied [Configure], "ZooKeeper does not let this process do that", "the credentials are wrong or missing, or the node belongs to somebody else", "give the credentials of the cluster's creator (--zookeeper-auth-file)";
    203 RegistryTls [Configure], "no TLS connection to ZooKeeper comes about", "a certificate is wrong, or a file of it cannot be read", "mend what the message names of --zookeeper-tls-ca, -cert and -key";
    204 RegistryRefused [Stop], "ZooKeeper refuses a write", "a quota of its is used up", "raise the quota";
    205 LeadershipLost [Retry], "this process does not lead any more", "ZooKeeper was out of reach for too long, or another process leads", "none: it stands in line again";
    206 ClusterAbsent [Configure], "the cluster does not exist in ZooKeeper", "a slip in --cluster or in the chroot, or it was never made", "run `cluster initialize`, or give the right name";
    207 ClusterUnreadable [Configure], "what ZooKeeper holds is no configuration of a cluster", "something else uses this path", "choose another --cluster or chroot";
    208 VersionDiffers [Configure], "the cluster is of another version than this program", "only some of the processes were upgraded", "run the pgshovel of that version, or `cluster upgrade`";
    209 ClusterOfOriginal [Configure], "the cluster was made by pgshovel 2015", "it was not upgraded yet", "save and drop its sets with that pgshovel, then run `cluster upgrade`";
    210 SetAbsent [Configure], "the set does not exist", "a slip in its name, or it was dropped", "`set list` shows the sets";
    211 SetUnreadable [Configure], "what ZooKeeper holds of the set is no configuration", "another program wrote it, or a later pgshovel", "run the pgshovel that wrote it, or drop the set with --force";
    212 ChangeUnreadable [Stop], "what ZooKeeper holds of a change in flight is not understood", "a later pgshovel began it", "run that pgshovel, or delete the node that the message names";
    301 DsnInvalid [Configure], "a connection string is wrong", "it is not in libpq's form, or names no host", "write it as the message shows";
    302 DatabaseAway [Retry], "PostgreSQL does not answer, or the connection broke", "the server is down or restarts, or the network is cut", "see that it runs; it is tried again";
    303 AddressUnknown [Retry], "the name of a database's server has no address", "a slip in the name, or the name service is away", "see the host of the connection string";
    304 DatabaseReadOnly [Retry], "the server takes no writes", "it is a replica that is not promoted, or default_transaction_read_only is on", "connect to the primary, or promote it";
    305 LoginRefused [Configure], "the server does not let the role in", "the password is wrong or missing, or pg_hba.conf has no entry", "give the password by PGPASSWORD or a password file, or mend pg_hba.conf";
    306 DatabaseAbsent [Configure], "the database does not exist", "a slip in dbname", "create it, or give the right name";
    307 DatabaseTls [Configure, Stop], "no TLS connection to PostgreSQL comes about", "a certificate has expired, is another server's or cannot be read; or the server speaks no TLS", "mend what the message names of sslmode, sslrootcert, sslcert and sslkey";
    308 PoolRefused [Configure], "PostgreSQL is reached through a pool in transaction mode", "the connection string leads to pgbouncer", "connect to the server, or to a pool in session mode";
    309 RoleUntrusted [Configure], "another role could run code as the role of this process", "a setting changes the role, or somebody else owns what the process uses", "do what the message says of owner or role";
    310 DatabaseBusy [Retry], "PostgreSQL did not do it in time", "another session holds a lock, a statement took too long, or two stood in each other's way", "pg_locks and pg_stat_activity say who; it is tried again";
    311 ResourcesShort [Retry], "PostgreSQL lacks room", "the disk or the memory is full, or too many connections are open", "give the server what the message says; it is tried again";
    312 PermissionDenied [Stop, Configure], "the role may not do that in PostgreSQL", "a GRANT is missing, or row security hides rows", "grant what the message names";
    313 StatementRefused [Stop], "PostgreSQL refuses a statement", "the SQLSTATE in the message says what is wrong", "mend what the message names";
    320 SchemaForeign [Configure], "a schema of the cluster's name is not one of this pgshovel", "it is left from pgshovel 2015, or was made by somebody else", "drop it with its queues, then create the set";
    321 DatabaseUnprepared [Configure], "the database has no sets of the cluster", "the connection string leads to another database", "create the set with `set create`, or mend the connection string";
    322 DatabaseCopied [Stop], "the database is a copy of one that is captured", "it was restored or cloned", "see the message: drop what is the cluster's in the copy, or make it the original";
    323 QueueAbsent [Configure], "the set's queue, or its consumer, is not in the database", "the set is elsewhere, or a change of it was interrupted", "see `set inspect`, and run `cluster recover`";
    324 DatabaseOutdated [Configure], "what the cluster keeps in the database is not what this program needs", "the database was not upgraded with the program", "run `cluster upgrade --force`, then `set update` with --relay-role";
    325 QueueUnprotected [Configure], "PgQ's own maintenance may lose events of the queue", "the set was made for another relay's role", "run `set update` with --relay-role";
    326 QueueTaken [Retry], "another relay has taken the queue", "it leads now", "none: this process stands in line again";
    327 BatchEnded [Stop], "somebody else ended a batch of the queue", "another program reads with the relay's consumer", "find who calls pgq.finish_batch or pgq.next_batch for it";
    328 TicksDamaged [Stop, Retry], "the queue's ticks cannot be right", "somebody changed pgq.tick, or the database is a copy", "drop the set, create it again, and bootstrap its targets";
    329 EventUndecodable [Stop], "an event of the queue, or a row of a table, cannot be decoded", "somebody wrote into the queue, or a type sends what it should not", "see the message: it names event, table and remedy";
    330 SnapshotGone [Retry], "a table changed, or the snapshot ended, while it was being loaded", "TRUNCATE, a rewrite or a rename of the table", "none: the load begins again";
    331 TableAbsent [Stop], "a table or a column of the set is not there", "it was dropped or renamed", "create it, or take it out of the set with `set update`";
    332 TableUntrusted [Stop], "a table cannot be read without running code of others", "a view, a policy or a function of another role stands in the way", "load as the role that the message names";
    401 StreamAway [Retry], "the stream cannot be reached", "its servers are down, or the network is cut", "see that they run; it is tried again";
    402 StreamBlocked [Blocked], "the stream does not go on until a person mends it", "the message of the plugin says what", "mend it; it goes on by itself";
    403 StreamRefused [Stop], "the stream refuses, for good", "the message of the plugin says what", "do what the message says";
    404 StreamMisconfigured [Configure], "the stream's section or grant is wrong", "a credential, a name or a property that the servers do not accept", "mend the section that the message names";
    405 MessageForeign [Stop], "a message of the stream is none of pgshovel", "somebody else writes to this topic or file", "find out who, and move the set to a new stream";
    406 GrammarViolated [Stop], "messages of the stream do not follow each other as they may", "two relays share an identity, or somebody else wrote", "replicate with --bootstrap";
    407 StreamEmpty [Stop], "the stream holds no message of the set", "nothing was relayed yet, or no set has this name", "see `set inspect`";
    408 EpochFell [Blocked, Stop], "the epochs of the stream's relays went back", "a relay of before wrote again, or the queue was restored from a backup", "do what the message says; a worker goes on by itself then";
    409 HistoryForked [Stop], "the stream goes on from another database, or from another history of it", "the source was restored, copied, or failed over to a replica that was behind", "replicate with --bootstrap, or allow the change once as the message says";
    410 StreamShared [Stop], "the stream holds batches of another set", "two sets were given one topic or folder", "give each set a stream of its own, and bootstrap again";
    411 MessagesMissing [Stop], "messages are missing from the stream", "the broker deleted what was not read yet, or somebody else did", "raise the topic's retention, and replicate with --bootstrap";
    412 EventImpossible [Stop], "an event cannot have happened after those before it", "`stream lint --strict` found a change that was lost or repeated", "replicate with --bootstrap, and report it with the message";
    501 TargetAway [Retry], "the target cannot be reached", "its server is down, or the network is cut", "see that it runs; it is tried again";
    502 TargetBlocked [Blocked], "the target does not go on until a person mends it", "a table, a column or a right is missing", "mend what the message names; it goes on by itself";
    503 TargetRefused [Stop], "the target refuses, for good", "the message of the plugin says what", "do what the message says";
    504 TargetMisconfigured [Configure], "the target's section or grant is wrong", "a connection string or a name that the server does not accept", "mend the section that the message names";
    505 RowsRejected [Stop], "a target or a transform rejects rows", "the rows do not fit, as the message says of each", "mend the target or the transform, and start again: nothing was lost";
    506 StateUnreadable [Stop], "the state that the target holds cannot be read", "another program wrote it, or a later pgshovel", "replicate with --bootstrap";
    507 TargetTaken [Stop], "the target belongs to another set, or to another worker", "two workers are given one target", "give each set a target of its own, or replicate with --bootstrap";
    601 PluginAbsent [Configure], "a plugin is not found", "a slip in its path, or it was not built", "give the path of a component";
    602 PluginUnfit [Configure], "a component cannot be used as this plugin", "it is built for another version or role, or imports what it is not granted", "do what the message says; `plugin inspect` shows its imports";
    603 PluginTrapped [Trap], "a plugin broke off", "a bug of the plugin", "see its lines in the log, and report it to its authors";
    604 PluginLate [Trap], "a plugin did not return in time", "what it waits for is slow, or it does not end", "raise limits.call, if it deserves more";
    605 PluginLimit [Trap, Stop, Configure], "a plugin needs more memory or more handles than its limit", "large rows, or a bug of the plugin", "raise limits.memory, if it deserves more";
    606 PluginContract [Stop], "a plugin returned what the contract forbids", "a bug of the plugin", "report it to its authors";
    607 PluginWaits [Retry], "a loader or a transform asks for another attempt", "what it needs is away", "see the message; it is tried again";
    608 PluginBlocked [Blocked], "a loader or a transform does not go on until a person mends something", "the message of the plugin says what", "mend it; it goes on by itself";
    609 PluginStopped [Stop], "a loader or a transform stops, for good", "the message of the plugin says what", "do what the message says";
    610 PluginMisconfigured [Configure], "the section of a loader or a transform is wrong", "a value that its servers do not accept", "mend the section that the message names";
    611 FolderFull [Blocked], "a plugin's folder holds as much as it may", "the stream or the target grows", "remove files, or raise grants.files.size";
    612 BootstrapChanged [Stop], "a transform made an update or a delete of a row of the bootstrap", "a bug of the transform", "let it drop, change and rename inserts only";
    701 SetUnfit [Configure], "the set's configuration does not fit its database", "a table, a column or a key is not as the configuration says", "mend each problem that the message lists";
    702 SetExists [Configure], "the set exists already", "it was created before", "change it with `set update`";
    703 ChangedMeanwhile [Stop, Retry], "another command changed the same meanwhile", "two people, or a script, work at one set", "look at it with `set inspect`, and try again";
    704 ChangeUnderWay [Retry], "another command is changing the same", "it has not ended yet", "wait for it, or end it; then try again";
    705 ChangeUnfinished [Retry], "a change was begun and is not finished", "a database or ZooKeeper went away in the middle of it", "none: the next command, a relay or `cluster recover` ends it";
    706 DatabaseOfOther [Stop], "the database belongs to another cluster of this name", "two clusters have one name", "give one of them another name";
    707 DatabaseAhead [Stop], "database and ZooKeeper do not know the same of the set", "one of the two was restored from a backup", "drop the set with --force and create it again, or restore the two together";
    708 QueueNotCreated [Stop, Configure], "PgQ did not create the queue", "its sequence is behind its table, as in a copy from pg_dump", "run the setval that the message shows";
    709 TwoPhaseOff [Configure], "a server allows no two-phase commit, which the change takes", "max_prepared_transactions is 0", "set it to 1 or more and restart the server";
    710 ConfigurationTooLarge [Configure], "the configuration is larger than ZooKeeper takes", "many tables or columns are named", "name fewer, or make two sets";
    711 ChangeUntrusted [Configure, Stop], "a change in flight may be somebody else's", "anybody can write to this ZooKeeper", "`cluster recover --allow-database` if it is yours, else what the message says";
    712 ChangesUnrelayed [Retry], "changes that were captured are not relayed yet", "the relay is behind, or does not run", "see that a relay runs, and try again";
    713 CheckFailed [Stop], "`set check` found problems", "the message lists them", "mend each problem that the message lists";
    901 Bug [Bug], "a promise of this program is broken", "a bug of pgshovel", "report it, with the message and the lines of the log before it";
    902 Abandoned [Stop], "work was given up since nobody waits for it", "the process is being stopped", "none";
    903 ToolFailed [Stop, Retry, Usage], "a tool of the project itself failed: a test, the demo, the benchmark", "the message says what", "do what the message says";
}

impl Code {
    /// What is to be known of a code, written as it is printed.
    #[must_use]
    pub fn find(text: &str) -> Option<&'static Situation> {
        SITUATIONS.iter().find(|situation| situation.code.to_string().eq_ignore_ascii_case(text))
    }

    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

/// As it is printed and looked for: `PS203`.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PS{}", self.number())
    }
}
