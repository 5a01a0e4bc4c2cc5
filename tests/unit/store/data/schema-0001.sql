BEGIN TRANSACTION;
CREATE TABLE alembic_version (
  version_num VARCHAR(32) NOT NULL,
  CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE events (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  experiment_id INTEGER NOT NULL,
  unit_id INTEGER NOT NULL,
  at DOUBLE NOT NULL,
  actor TEXT NOT NULL,
  from_state VARCHAR(16) NOT NULL,
  to_state VARCHAR(16) NOT NULL,
  why TEXT NOT NULL,
  FOREIGN KEY(experiment_id) REFERENCES experiments (id) ON DELETE CASCADE,
  FOREIGN KEY(unit_id) REFERENCES units (id) ON DELETE CASCADE
);
INSERT INTO "events" VALUES(1,1,1,1700000004.5,'launcher','','queued','');
INSERT INTO "events" VALUES(2,1,2,1700000004.5,'launcher','','queued','');
INSERT INTO "events" VALUES(3,1,3,1700000004.5,'launcher','','queued','');
INSERT INTO "events" VALUES(4,1,4,1700000004.5,'launcher','','queued','');
INSERT INTO "events" VALUES(5,1,5,1700000004.5,'launcher','','queued','');
INSERT INTO "events" VALUES(6,1,6,1700000004.5,'launcher','','queued','');
INSERT INTO "events" VALUES(7,1,7,1700000004.5,'launcher','','creating','');
INSERT INTO "events" VALUES(8,2,8,1700000006.0,'launcher','','queued','');
INSERT INTO "events" VALUES(9,1,1,1700000007.5,'supervisor','queued','starting','');
INSERT INTO "events" VALUES(10,1,1,1700000009.0,'supervisor','starting','running','');
INSERT INTO "events" VALUES(11,1,1,1700000010.5,'supervisor','running','completed','');
INSERT INTO "events" VALUES(12,1,2,1700000012.0,'supervisor','queued','starting','');
INSERT INTO "events" VALUES(13,1,2,1700000013.5,'supervisor','starting','running','');
INSERT INTO "events" VALUES(14,1,2,1700000015.0,'supervisor','running','failed','exit code 3');
INSERT INTO "events" VALUES(15,1,3,1700000016.5,'supervisor','queued','starting','');
INSERT INTO "events" VALUES(16,1,3,1700000018.0,'supervisor','starting','running','');
INSERT INTO "events" VALUES(17,1,3,1700000019.5,'supervisor','running','failed','');
INSERT INTO "events" VALUES(18,1,3,1700000021.0,'supervisor','failed','restarting','asked');
INSERT INTO "events" VALUES(19,1,3,1700000022.5,'supervisor','restarting','queued','');
INSERT INTO "events" VALUES(20,1,4,1700000024.0,'supervisor','queued','starting','');
INSERT INTO "events" VALUES(21,1,4,1700000025.5,'supervisor','starting','running','');
INSERT INTO "events" VALUES(22,1,5,1700000028.5,'supervisor','queued','stopped','');
INSERT INTO "events" VALUES(23,1,6,1700000030.0,'supervisor','queued','starting','');
INSERT INTO "events" VALUES(24,1,6,1700000031.5,'supervisor','starting','running','');
CREATE TABLE experiments (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  title TEXT NOT NULL,
  user_name VARCHAR(255) NOT NULL,
  host VARCHAR(255) NOT NULL,
  script TEXT NOT NULL,
  argv TEXT NOT NULL,
  cwd TEXT NOT NULL,
  python TEXT NOT NULL,
  created_at DOUBLE NOT NULL
);
INSERT INTO "experiments" VALUES(1,'cifar10 β','ada','lovelace','/src/launch.py','["launch.py","--lr=0.1"]','/src','/venv/bin/python',1700000001.5);
INSERT INTO "experiments" VALUES(2,'mnist','bob','babbage','','[]','','',1700000003.0);
CREATE TABLE requests (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  experiment_id INTEGER NOT NULL,
  unit_id INTEGER,
  verb VARCHAR(32) NOT NULL,
  message TEXT NOT NULL,
  outcome VARCHAR(16) NOT NULL,
  actor TEXT NOT NULL,
  at DOUBLE NOT NULL,
  finished_at DOUBLE,
  FOREIGN KEY(experiment_id) REFERENCES experiments (id) ON DELETE CASCADE,
  FOREIGN KEY(unit_id) REFERENCES units (id) ON DELETE CASCADE
);
INSERT INTO "requests" VALUES(1,1,4,'stop','dull','stopped','ada',1700000033.0,NULL);
INSERT INTO "requests" VALUES(2,2,NULL,'restart','','stopped','bob',1700000034.5,1700000036.0);
CREATE TABLE settings (
  name VARCHAR(64) NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (name)
);
INSERT INTO "settings" VALUES('home_id','0123456789ab');
CREATE TABLE tasks (
  unit_id INTEGER NOT NULL,
  position INTEGER NOT NULL,
  name TEXT NOT NULL,
  full_name TEXT NOT NULL,
  spec TEXT NOT NULL,
  state VARCHAR(16) NOT NULL,
  exit_code INTEGER,
  exit_signal INTEGER,
  message TEXT NOT NULL,
  started_at DOUBLE,
  ended_at DOUBLE,
  max_rss BIGINT,
  user_seconds DOUBLE,
  system_seconds DOUBLE,
  PRIMARY KEY (unit_id, position),
  FOREIGN KEY(unit_id) REFERENCES units (id) ON DELETE CASCADE
);
INSERT INTO "tasks" VALUES(1,0,'train','1_1_train','{"argv":["/bin/true","--lr=0.1"],"cwd":"/src","env":{},"secrets":{},"requirements":{"cpu":2.0},"options":{},"executable":{}}','exited',0,NULL,'',1700000009.0,1700000030.0,4096,1.5,0.5);
INSERT INTO "tasks" VALUES(2,0,'train','1_2_train','{"argv":["/bin/true","--lr=0.1"],"cwd":"/src","env":{},"secrets":{},"requirements":{"cpu":2.0},"options":{},"executable":{}}','exited',3,NULL,'exit code 3',1700000013.5,1700000040.0,4096,1.5,0.5);
INSERT INTO "tasks" VALUES(3,0,'train','1_3_train','{"argv":["/bin/true","--lr=0.1"],"cwd":"/src","env":{},"secrets":{},"requirements":{"cpu":2.0},"options":{},"executable":{}}','',NULL,NULL,'',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(4,0,'train','1_4_train','{"argv":["/bin/true","--lr=0.1"],"cwd":"/src","env":{},"secrets":{},"requirements":{"cpu":2.0},"options":{},"executable":{}}','running',NULL,NULL,'',1700000025.5,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(5,0,'train','1_5_train','{"argv":["/bin/true","--lr=0.1"],"cwd":"/src","env":{},"secrets":{},"requirements":{"cpu":2.0},"options":{},"executable":{}}','',NULL,NULL,'',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(6,0,'train','1_auxiliary_train','{"argv":["/bin/true","--lr=0.1"],"cwd":"/src","env":{},"secrets":{},"requirements":{"cpu":2.0},"options":{},"executable":{}}','running',NULL,NULL,'',1700000031.5,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(8,0,'train','2_1_train','{"argv":["/bin/true","--lr=0.1"],"cwd":"/src","env":{"A":"back\\slash ''quote'' \"double\"\nline"},"secrets":{},"requirements":{"cpu":2.0},"options":{},"executable":{}}','',NULL,NULL,'',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(8,1,'eval','2_1_eval','{"argv":["/bin/true","--lr=0.1"],"cwd":"/src","env":{},"secrets":{},"requirements":{"cpu":2.0},"options":{},"executable":{}}','',NULL,NULL,'',NULL,NULL,NULL,NULL,NULL);
CREATE TABLE units (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  experiment_id INTEGER NOT NULL,
  kind VARCHAR(16) NOT NULL,
  number INTEGER NOT NULL,
  state VARCHAR(16) NOT NULL,
  message TEXT NOT NULL,
  identity VARCHAR(512),
  args TEXT NOT NULL,
  importance INTEGER NOT NULL,
  tags TEXT NOT NULL,
  termination_delay DOUBLE,
  attempt INTEGER NOT NULL,
  backend VARCHAR(64) NOT NULL,
  reference TEXT NOT NULL,
  granted TEXT NOT NULL,
  stopping TEXT,
  created_at DOUBLE NOT NULL,
  started_at DOUBLE,
  ended_at DOUBLE,
  FOREIGN KEY(experiment_id) REFERENCES experiments (id) ON DELETE CASCADE
);
INSERT INTO "units" VALUES(1,1,'work',1,'completed','','lr=1','{"args":{"lr":0.1}}',0,'[]',NULL,1,'local','pid 7','{"train":{"local_gpu":["0"]}}',NULL,1700000004.5,1700000009.0,1700000010.5);
INSERT INTO "units" VALUES(2,1,'work',2,'failed','train: exit code 3','lr=2','{"args":{"lr":0.2}}',0,'[]',NULL,1,'local','pid 7','{"train":{"local_gpu":["0"]}}',NULL,1700000004.5,1700000013.5,1700000015.0);
INSERT INTO "units" VALUES(3,1,'work',3,'queued','','lr=3','{"args":{"lr":0.30000000000000004}}',0,'[]',NULL,2,'local','','{}',NULL,1700000004.5,NULL,NULL);
INSERT INTO "units" VALUES(4,1,'work',4,'running','','lr=4','{"args":{"lr":0.4}}',0,'[]',NULL,1,'local','pid 7','{"train":{"local_gpu":["0"]}}','["stopped","dull"]',1700000004.5,1700000025.5,NULL);
INSERT INTO "units" VALUES(5,1,'work',5,'stopped','enough','lr=5','{"args":{"lr":0.5}}',0,'[]',NULL,1,'local','','{}',NULL,1700000004.5,NULL,1700000028.5);
INSERT INTO "units" VALUES(6,1,'auxiliary',1,'running','',NULL,'{}',0,'[]',2.5,1,'local','pid 7','{"train":{"local_gpu":["0"]}}',NULL,1700000004.5,1700000031.5,NULL);
INSERT INTO "units" VALUES(7,1,'work',6,'creating','',NULL,'{}',0,'[]',NULL,1,'','','{}',NULL,1700000004.5,NULL,NULL);
INSERT INTO "units" VALUES(8,2,'work',1,'queued','',NULL,'{}',1,'["x","it''s"]',NULL,1,'local','','{}',NULL,1700000006.0,NULL,NULL);
CREATE UNIQUE INDEX units_number ON units (experiment_id, kind, number);
CREATE UNIQUE INDEX units_identity ON units (experiment_id, identity);
CREATE INDEX units_order ON units (experiment_id, id);
CREATE INDEX units_queue ON units (experiment_id, state, importance DESC, id, kind, ended_at);
CREATE INDEX events_experiment ON events (experiment_id, id);
CREATE INDEX events_unit ON events (unit_id, id);
CREATE INDEX requests_open ON requests (experiment_id, finished_at);
CREATE INDEX requests_unit ON requests (unit_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('experiments',2);
INSERT INTO "sqlite_sequence" VALUES('units',8);
INSERT INTO "sqlite_sequence" VALUES('events',24);
INSERT INTO "sqlite_sequence" VALUES('requests',2);
COMMIT;
