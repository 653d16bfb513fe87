-- What papad 2.0 stored (layout 2). Every later papad reads it.
BEGIN TRANSACTION;
CREATE TABLE keys (last INTEGER);
INSERT INTO "keys" VALUES(5);
CREATE TABLE processes (key INTEGER PRIMARY KEY, name TEXT, spec TEXT, facts TEXT, pipes TEXT, state TEXT);
INSERT INTO "processes" VALUES(2,'old','{"name":"old","command":["sh","-c","echo hi; sleep 1"],"env":null,"working_dir":null,"uid":null,"gid":null,"rlimits":{},"umask":null,"stdout":"pipe","stderr":"pipe","bufsize":2097152,"overflow":"drop","sockets":[]}','{"pid":484,"started":1795516679773541,"uid":0,"gid":0,"working_dir":"/root","unit":"papa-old.scope","removed":false}','{"out":2634020,"err":2634021}','retired');
INSERT INTO "processes" VALUES(4,'p','{"name":"p","command":["sleep","600"],"env":{"A":"B"},"working_dir":"/srv","uid":"alice","gid":100,"rlimits":{"nofile":99},"umask":18,"stdout":"pipe","stderr":"stdout","bufsize":4096,"overflow":"block","sockets":["web"]}','{"pid":491,"started":1795516747701620,"uid":1000,"gid":100,"working_dir":"/srv","unit":null,"removed":true}','{"out":2775428,"status":2775429}','running');
INSERT INTO "processes" VALUES(5,'begun','{"name":"begun","command":["true"],"env":null,"working_dir":null,"uid":null,"gid":null,"rlimits":{},"umask":null,"stdout":"pipe","stderr":"pipe","bufsize":2097152,"overflow":"drop","sockets":[]}',NULL,'{"out":2775430,"err":2775431}','starting');
CREATE TABLE sockets (key INTEGER PRIMARY KEY, name TEXT, spec TEXT, port INTEGER);
INSERT INTO "sockets" VALUES(3,'web','{"name":"web","family":"inet","type":"stream","host":"127.0.0.1","port":8080,"path":null,"umask":null,"backlog":64,"interface":null,"reuseport":false,"passed":false,"inode":77,"file":null}',8080);
CREATE TABLE "values" (name TEXT PRIMARY KEY, value TEXT);
INSERT INTO "values" VALUES('v','it''s');
CREATE TABLE requests (kind TEXT, token TEXT, name TEXT, key INTEGER, result TEXT, gone INTEGER,
                       PRIMARY KEY (kind, token));
INSERT INTO "requests" VALUES('process','ask_1','p',4,NULL,NULL);
INSERT INTO "requests" VALUES('process','ask_0','job',1,'{"name":"job","pid":480,"running":false,"started":1795516679000000,"args":["true"],"uid":0,"gid":0,"working_dir":"/","exit_code":0,"bufsize":0,"buffered":0,"dropped":0,"written":0,"last_seq":1,"unit":null,"journal":false,"as_user":false,"as_group":false,"memory_max":null,"cpu_quota":null,"tasks_max":null}',5000000);
INSERT INTO "requests" VALUES('socket','ask-2','web',3,NULL,NULL);
PRAGMA user_version = 2;
COMMIT;
