CREATE TABLE adjustment (
	id INTEGER NOT NULL, 
	repricing INTEGER NOT NULL, 
	call INTEGER NOT NULL, 
	old_cost_pusd BIGINT, 
	new_cost_pusd BIGINT, 
	old_status INTEGER NOT NULL, 
	new_status INTEGER NOT NULL, 
	old_flags INTEGER, 
	new_flags INTEGER, 
	old_price_version INTEGER, 
	new_price_version INTEGER, 
	PRIMARY KEY (id)
);
CREATE INDEX adjustment_call ON adjustment (call);
CREATE INDEX adjustment_repricing ON adjustment (repricing);
CREATE TABLE budget (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	definition TEXT NOT NULL, 
	created_ns BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
CREATE TABLE budget_account (
	id INTEGER NOT NULL, 
	scope TEXT NOT NULL, 
	period_start BIGINT NOT NULL, 
	spent_pusd BIGINT DEFAULT '0' NOT NULL, 
	leased_pusd BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (scope, period_start)
);
CREATE TABLE budget_lease (
	id INTEGER NOT NULL, 
	account INTEGER NOT NULL, 
	holder TEXT NOT NULL, 
	outstanding_pusd BIGINT NOT NULL, 
	expires_ns BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (account, holder)
);
CREATE INDEX budget_lease_expires ON budget_lease (expires_ns);
CREATE TABLE budget_notice (
	id INTEGER NOT NULL, 
	account INTEGER NOT NULL, 
	percent INTEGER NOT NULL, 
	sent_ns BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (account, percent)
);
CREATE TABLE call (
	id INTEGER NOT NULL, 
	trace_id BLOB NOT NULL, 
	span_id BLOB NOT NULL, 
	parent_span_id BLOB, 
	run INTEGER, 
	started_ns BIGINT NOT NULL, 
	duration_ns BIGINT NOT NULL, 
	ttft_ns BIGINT, 
	operation INTEGER NOT NULL, 
	origin INTEGER NOT NULL, 
	scope INTEGER, 
	provider INTEGER, 
	host INTEGER, 
	request_model INTEGER, 
	response_model INTEGER, 
	response_id TEXT, 
	response_key BIGINT, 
	crew INTEGER, 
	flow INTEGER, 
	task INTEGER, 
	agent INTEGER, 
	tool INTEGER, 
	user INTEGER, 
	team INTEGER, 
	session INTEGER, 
	tag_set INTEGER, 
	service INTEGER, 
	environment INTEGER, 
	state SMALLINT NOT NULL, 
	error_type INTEGER, 
	finish_reason INTEGER, 
	service_tier INTEGER, 
	input_tokens BIGINT, 
	cache_read_tokens BIGINT, 
	cache_write_5m_tokens BIGINT, 
	cache_write_1h_tokens BIGINT, 
	output_tokens BIGINT, 
	reasoning_tokens BIGINT, 
	other_usage TEXT, 
	usage_status INTEGER NOT NULL, 
	usage_flags INTEGER, 
	cost_pusd BIGINT, 
	cost_status INTEGER NOT NULL, 
	cost_flags INTEGER, 
	reported_cost_pusd BIGINT, 
	price_version INTEGER, 
	PRIMARY KEY (id)
);
CREATE INDEX call_response ON call (response_key);
CREATE INDEX call_run ON call (run);
CREATE UNIQUE INDEX call_span ON call (trace_id, span_id);
CREATE INDEX call_time ON call ((started_ns / 1000000000));
CREATE TABLE label (
	id INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (kind, value)
);
CREATE TABLE latency_bucket (
	bucket INTEGER NOT NULL, 
	le_seconds FLOAT NOT NULL, 
	PRIMARY KEY (bucket)
);
CREATE TABLE latency_day (
	dimension SMALLINT NOT NULL, 
	day BIGINT NOT NULL, 
	"key" INTEGER NOT NULL, 
	bucket INTEGER NOT NULL, 
	count BIGINT NOT NULL, 
	PRIMARY KEY (dimension, day, "key", bucket)
)
 WITHOUT ROWID;
CREATE TABLE latency_hour (
	dimension SMALLINT NOT NULL, 
	hour BIGINT NOT NULL, 
	"key" INTEGER NOT NULL, 
	bucket INTEGER NOT NULL, 
	count BIGINT NOT NULL, 
	PRIMARY KEY (dimension, hour, "key", bucket)
)
 WITHOUT ROWID;
CREATE TABLE ledger_state (
	name TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE price_version (
	id INTEGER NOT NULL, 
	hash TEXT NOT NULL, 
	source TEXT NOT NULL, 
	provider TEXT NOT NULL, 
	model TEXT NOT NULL, 
	rates TEXT NOT NULL, 
	created_ns BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (hash)
);
CREATE TABLE repricing (
	id INTEGER NOT NULL, 
	created_ns BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	undone_ns BIGINT, 
	PRIMARY KEY (id)
);
CREATE TABLE rollup_hour (
	dimension SMALLINT NOT NULL, 
	hour BIGINT NOT NULL, 
	"key" INTEGER NOT NULL, 
	key2 INTEGER NOT NULL, 
	calls BIGINT NOT NULL, 
	failed_calls BIGINT NOT NULL, 
	unpriced_calls BIGINT NOT NULL, 
	priced_calls BIGINT NOT NULL, 
	input_tokens BIGINT NOT NULL, 
	cache_read_tokens BIGINT NOT NULL, 
	cache_write_tokens BIGINT NOT NULL, 
	output_tokens BIGINT NOT NULL, 
	reasoning_tokens BIGINT NOT NULL, 
	cost_whole_usd BIGINT NOT NULL, 
	cost_pusd BIGINT NOT NULL, 
	duration_ns BIGINT NOT NULL, 
	PRIMARY KEY (dimension, hour, "key", key2)
)
 WITHOUT ROWID;
CREATE TABLE run (
	id INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	trace_id BLOB NOT NULL, 
	kind TEXT, 
	name INTEGER, 
	service INTEGER, 
	environment INTEGER, 
	team INTEGER, 
	user INTEGER, 
	session INTEGER, 
	tag_set INTEGER, 
	status TEXT DEFAULT 'running' NOT NULL, 
	error_type INTEGER, 
	started_ns BIGINT NOT NULL, 
	duration_ns BIGINT, 
	calls INTEGER DEFAULT '0' NOT NULL, 
	failed_calls INTEGER DEFAULT '0' NOT NULL, 
	unpriced_calls INTEGER DEFAULT '0' NOT NULL, 
	priced_calls INTEGER DEFAULT '0' NOT NULL, 
	tool_calls INTEGER DEFAULT '0' NOT NULL, 
	failed_tool_calls INTEGER DEFAULT '0' NOT NULL, 
	input_tokens BIGINT DEFAULT '0' NOT NULL, 
	output_tokens BIGINT DEFAULT '0' NOT NULL, 
	cost_whole_usd BIGINT DEFAULT '0' NOT NULL, 
	cost_pusd BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (run_id)
);
CREATE INDEX run_name ON run (name, (started_ns / 1000000000));
CREATE INDEX run_not_ok ON run (status, (started_ns / 1000000000)) WHERE status <> 'ok';
CREATE INDEX run_session ON run (session, (started_ns / 1000000000));
CREATE INDEX run_team ON run (team, (started_ns / 1000000000));
CREATE INDEX run_time ON run ((started_ns / 1000000000));
CREATE INDEX run_user ON run (user, (started_ns / 1000000000));
CREATE TABLE step (
	id INTEGER NOT NULL, 
	trace_id BLOB NOT NULL, 
	span_id BLOB NOT NULL, 
	parent_span_id BLOB, 
	run INTEGER, 
	kind INTEGER NOT NULL, 
	name INTEGER, 
	crew INTEGER, 
	flow INTEGER, 
	task INTEGER, 
	agent INTEGER, 
	state SMALLINT NOT NULL, 
	error_type INTEGER, 
	started_ns BIGINT NOT NULL, 
	duration_ns BIGINT NOT NULL, 
	details TEXT, 
	PRIMARY KEY (id)
);
CREATE INDEX step_run ON step (run);
CREATE UNIQUE INDEX step_span ON step (trace_id, span_id);
CREATE INDEX step_time ON step ((started_ns / 1000000000));
CREATE TABLE tag_set (
	id INTEGER NOT NULL, 
	tags TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (tags)
);
CREATE TABLE crewmeter_schema (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT crewmeter_schema_pkc PRIMARY KEY (version_num)
);
CREATE VIEW calls AS SELECT call.started_ns / 1000000000 AS time, CASE WHEN (call.trace_id IS NOT NULL) THEN lower(hex(call.trace_id)) ELSE NULL END AS trace_id, CASE WHEN (call.span_id IS NOT NULL) THEN lower(hex(call.span_id)) ELSE NULL END AS span_id, CASE WHEN (call.parent_span_id IS NOT NULL) THEN lower(hex(call.parent_span_id)) ELSE NULL END AS parent_span_id, of_run.run_id, operation_name.value AS operation, origin_name.value AS origin, provider_name.value AS provider, model_name.value AS model, request_model_name.value AS request_model, response_model_name.value AS response_model, crew_name.value AS crew, flow_name.value AS flow, task_name.value AS task, agent_name.value AS agent, tool_name.value AS tool, user_name.value AS user, team_name.value AS team, session_name.value AS session, tag_set.tags, service_name.value AS service, environment_name.value AS environment, CASE WHEN (call.state = 0) THEN 'ok' ELSE 'error' END AS status, error_type_name.value AS error_type, finish_reason_name.value AS finish_reason, CAST(call.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds, CAST(call.ttft_ns AS FLOAT) / (1000000000.0 + 0.0) AS ttft_seconds, call.input_tokens, call.cache_read_tokens, call.cache_write_5m_tokens + call.cache_write_1h_tokens AS cache_write_tokens, call.output_tokens, call.reasoning_tokens, CAST(call.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, cost_status_name.value AS cost_status, CAST(call.reported_cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS reported_cost_usd, CASE WHEN (call.cost_pusd IS NULL AND call.state != 2) THEN 1 ELSE 0 END AS unpriced, call.started_ns / 1000000 AS started_ms 
FROM call LEFT OUTER JOIN run AS of_run ON of_run.id = call.run LEFT OUTER JOIN tag_set ON tag_set.id = call.tag_set LEFT OUTER JOIN label AS operation_name ON operation_name.id = call.operation LEFT OUTER JOIN label AS origin_name ON origin_name.id = call.origin LEFT OUTER JOIN label AS provider_name ON provider_name.id = call.provider LEFT OUTER JOIN label AS model_name ON model_name.id = coalesce(call.request_model, call.response_model) LEFT OUTER JOIN label AS request_model_name ON request_model_name.id = call.request_model LEFT OUTER JOIN label AS response_model_name ON response_model_name.id = call.response_model LEFT OUTER JOIN label AS crew_name ON crew_name.id = call.crew LEFT OUTER JOIN label AS flow_name ON flow_name.id = call.flow LEFT OUTER JOIN label AS task_name ON task_name.id = call.task LEFT OUTER JOIN label AS agent_name ON agent_name.id = call.agent LEFT OUTER JOIN label AS tool_name ON tool_name.id = call.tool LEFT OUTER JOIN label AS user_name ON user_name.id = call.user LEFT OUTER JOIN label AS team_name ON team_name.id = call.team LEFT OUTER JOIN label AS session_name ON session_name.id = call.session LEFT OUTER JOIN label AS service_name ON service_name.id = call.service LEFT OUTER JOIN label AS environment_name ON environment_name.id = call.environment LEFT OUTER JOIN label AS error_type_name ON error_type_name.id = call.error_type LEFT OUTER JOIN label AS finish_reason_name ON finish_reason_name.id = call.finish_reason LEFT OUTER JOIN label AS cost_status_name ON cost_status_name.id = call.cost_status;
CREATE VIEW runs AS SELECT run.started_ns / 1000000000 AS time, run.run_id, CASE WHEN (run.trace_id IS NOT NULL) THEN lower(hex(run.trace_id)) ELSE NULL END AS trace_id, run.kind, name_name.value AS name, service_name.value AS service, environment_name.value AS environment, team_name.value AS team, user_name.value AS user, session_name.value AS session, run.status, error_type_name.value AS error_type, CAST(run.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds, run.calls, run.failed_calls, run.unpriced_calls, run.tool_calls, run.failed_tool_calls, run.input_tokens, run.output_tokens, run.cost_whole_usd + CAST(run.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd 
FROM run LEFT OUTER JOIN label AS name_name ON name_name.id = run.name LEFT OUTER JOIN label AS service_name ON service_name.id = run.service LEFT OUTER JOIN label AS environment_name ON environment_name.id = run.environment LEFT OUTER JOIN label AS team_name ON team_name.id = run.team LEFT OUTER JOIN label AS user_name ON user_name.id = run.user LEFT OUTER JOIN label AS session_name ON session_name.id = run.session LEFT OUTER JOIN label AS error_type_name ON error_type_name.id = run.error_type;
CREATE VIEW steps AS SELECT step.started_ns / 1000000000 AS time, CASE WHEN (step.trace_id IS NOT NULL) THEN lower(hex(step.trace_id)) ELSE NULL END AS trace_id, CASE WHEN (step.span_id IS NOT NULL) THEN lower(hex(step.span_id)) ELSE NULL END AS span_id, CASE WHEN (step.parent_span_id IS NOT NULL) THEN lower(hex(step.parent_span_id)) ELSE NULL END AS parent_span_id, of_run.run_id, kind_name.value AS kind, name_name.value AS name, crew_name.value AS crew, flow_name.value AS flow, task_name.value AS task, agent_name.value AS agent, CASE WHEN (step.state = 0) THEN 'ok' WHEN (step.state = 1) THEN 'error' ELSE 'abandoned' END AS status, error_type_name.value AS error_type, CAST(step.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds, step.details, step.started_ns / 1000000 AS started_ms 
FROM step LEFT OUTER JOIN run AS of_run ON of_run.id = step.run LEFT OUTER JOIN label AS kind_name ON kind_name.id = step.kind LEFT OUTER JOIN label AS name_name ON name_name.id = step.name LEFT OUTER JOIN label AS crew_name ON crew_name.id = step.crew LEFT OUTER JOIN label AS flow_name ON flow_name.id = step.flow LEFT OUTER JOIN label AS task_name ON task_name.id = step.task LEFT OUTER JOIN label AS agent_name ON agent_name.id = step.agent LEFT OUTER JOIN label AS error_type_name ON error_type_name.id = step.error_type;
CREATE VIEW total_hourly AS SELECT rollup_hour.hour AS time, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour 
WHERE rollup_hour.dimension = 0;
CREATE VIEW model_hourly AS SELECT rollup_hour.hour AS time, provider_name.value AS provider, model_name.value AS model, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour LEFT OUTER JOIN label AS provider_name ON provider_name.id = rollup_hour."key" LEFT OUTER JOIN label AS model_name ON model_name.id = rollup_hour.key2 
WHERE rollup_hour.dimension = 1;
CREATE VIEW crew_hourly AS SELECT rollup_hour.hour AS time, crew_name.value AS crew, agent_name.value AS agent, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour LEFT OUTER JOIN label AS crew_name ON crew_name.id = rollup_hour."key" LEFT OUTER JOIN label AS agent_name ON agent_name.id = rollup_hour.key2 
WHERE rollup_hour.dimension = 2;
CREATE VIEW crew_model_hourly AS SELECT rollup_hour.hour AS time, crew_name.value AS crew, model_name.value AS model, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour LEFT OUTER JOIN label AS crew_name ON crew_name.id = rollup_hour."key" LEFT OUTER JOIN label AS model_name ON model_name.id = rollup_hour.key2 
WHERE rollup_hour.dimension = 3;
CREATE VIEW task_hourly AS SELECT rollup_hour.hour AS time, crew_name.value AS crew, task_name.value AS task, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour LEFT OUTER JOIN label AS crew_name ON crew_name.id = rollup_hour."key" LEFT OUTER JOIN label AS task_name ON task_name.id = rollup_hour.key2 
WHERE rollup_hour.dimension = 4;
CREATE VIEW team_hourly AS SELECT rollup_hour.hour AS time, team_name.value AS team, user_name.value AS user, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour LEFT OUTER JOIN label AS team_name ON team_name.id = rollup_hour."key" LEFT OUTER JOIN label AS user_name ON user_name.id = rollup_hour.key2 
WHERE rollup_hour.dimension = 5;
CREATE VIEW team_crew_hourly AS SELECT rollup_hour.hour AS time, team_name.value AS team, crew_name.value AS crew, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour LEFT OUTER JOIN label AS team_name ON team_name.id = rollup_hour."key" LEFT OUTER JOIN label AS crew_name ON crew_name.id = rollup_hour.key2 
WHERE rollup_hour.dimension = 6;
CREATE VIEW team_model_hourly AS SELECT rollup_hour.hour AS time, team_name.value AS team, model_name.value AS model, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour LEFT OUTER JOIN label AS team_name ON team_name.id = rollup_hour."key" LEFT OUTER JOIN label AS model_name ON model_name.id = rollup_hour.key2 
WHERE rollup_hour.dimension = 7;
CREATE VIEW service_hourly AS SELECT rollup_hour.hour AS time, service_name.value AS service, environment_name.value AS environment, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour LEFT OUTER JOIN label AS service_name ON service_name.id = rollup_hour."key" LEFT OUTER JOIN label AS environment_name ON environment_name.id = rollup_hour.key2 
WHERE rollup_hour.dimension = 8;
CREATE VIEW tag_hourly AS SELECT rollup_hour.hour AS time, tag_name.value AS tag, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour LEFT OUTER JOIN label AS tag_name ON tag_name.id = rollup_hour."key" 
WHERE rollup_hour.dimension = 9;
CREATE VIEW tool_hourly AS SELECT rollup_hour.hour AS time, tool_name.value AS tool, agent_name.value AS agent, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour LEFT OUTER JOIN label AS tool_name ON tool_name.id = rollup_hour."key" LEFT OUTER JOIN label AS agent_name ON agent_name.id = rollup_hour.key2 
WHERE rollup_hour.dimension = 10;
CREATE VIEW run_hourly AS SELECT rollup_hour.hour AS time, name_name.value AS name, status_name.value AS status, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour LEFT OUTER JOIN label AS name_name ON name_name.id = rollup_hour."key" LEFT OUTER JOIN label AS status_name ON status_name.id = rollup_hour.key2 
WHERE rollup_hour.dimension = 11;
CREATE VIEW error_hourly AS SELECT rollup_hour.hour AS time, error_type_name.value AS error_type, model_name.value AS model, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour LEFT OUTER JOIN label AS error_type_name ON error_type_name.id = rollup_hour."key" LEFT OUTER JOIN label AS model_name ON model_name.id = rollup_hour.key2 
WHERE rollup_hour.dimension = 12;
CREATE VIEW finish_hourly AS SELECT rollup_hour.hour AS time, finish_reason_name.value AS finish_reason, model_name.value AS model, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour LEFT OUTER JOIN label AS finish_reason_name ON finish_reason_name.id = rollup_hour."key" LEFT OUTER JOIN label AS model_name ON model_name.id = rollup_hour.key2 
WHERE rollup_hour.dimension = 13;
CREATE VIEW cost_status_hourly AS SELECT rollup_hour.hour AS time, cost_status_name.value AS cost_status, model_name.value AS model, rollup_hour.calls, rollup_hour.failed_calls, rollup_hour.unpriced_calls, rollup_hour.input_tokens, rollup_hour.cache_read_tokens, rollup_hour.cache_write_tokens, rollup_hour.output_tokens, rollup_hour.reasoning_tokens, rollup_hour.cost_whole_usd + CAST(rollup_hour.cost_pusd AS FLOAT) / (1000000000000.0 + 0.0) AS cost_usd, CAST(rollup_hour.duration_ns AS FLOAT) / (1000000000.0 + 0.0) AS duration_seconds 
FROM rollup_hour LEFT OUTER JOIN label AS cost_status_name ON cost_status_name.id = rollup_hour."key" LEFT OUTER JOIN label AS model_name ON model_name.id = rollup_hour.key2 
WHERE rollup_hour.dimension = 14;
CREATE VIEW latency_hourly AS SELECT latency_hour.hour AS time, 'total' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_hour.count 
FROM latency_hour JOIN latency_bucket ON latency_bucket.bucket = latency_hour.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_hour."key" 
WHERE latency_hour.dimension = 0 UNION ALL SELECT latency_hour.hour AS time, 'model' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_hour.count 
FROM latency_hour JOIN latency_bucket ON latency_bucket.bucket = latency_hour.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_hour."key" 
WHERE latency_hour.dimension = 1 UNION ALL SELECT latency_hour.hour AS time, 'crew' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_hour.count 
FROM latency_hour JOIN latency_bucket ON latency_bucket.bucket = latency_hour.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_hour."key" 
WHERE latency_hour.dimension = 2 UNION ALL SELECT latency_hour.hour AS time, 'agent' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_hour.count 
FROM latency_hour JOIN latency_bucket ON latency_bucket.bucket = latency_hour.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_hour."key" 
WHERE latency_hour.dimension = 3 UNION ALL SELECT latency_hour.hour AS time, 'tool' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_hour.count 
FROM latency_hour JOIN latency_bucket ON latency_bucket.bucket = latency_hour.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_hour."key" 
WHERE latency_hour.dimension = 4 UNION ALL SELECT latency_hour.hour AS time, 'run' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_hour.count 
FROM latency_hour JOIN latency_bucket ON latency_bucket.bucket = latency_hour.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_hour."key" 
WHERE latency_hour.dimension = 5 UNION ALL SELECT latency_hour.hour AS time, 'ttft' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_hour.count 
FROM latency_hour JOIN latency_bucket ON latency_bucket.bucket = latency_hour.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_hour."key" 
WHERE latency_hour.dimension = 6 UNION ALL SELECT latency_hour.hour AS time, 'provider' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_hour.count 
FROM latency_hour JOIN latency_bucket ON latency_bucket.bucket = latency_hour.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_hour."key" 
WHERE latency_hour.dimension = 7 UNION ALL SELECT latency_hour.hour AS time, 'team' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_hour.count 
FROM latency_hour JOIN latency_bucket ON latency_bucket.bucket = latency_hour.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_hour."key" 
WHERE latency_hour.dimension = 8 UNION ALL SELECT latency_hour.hour AS time, 'task' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_hour.count 
FROM latency_hour JOIN latency_bucket ON latency_bucket.bucket = latency_hour.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_hour."key" 
WHERE latency_hour.dimension = 9;
CREATE VIEW latency_daily AS SELECT latency_day.day AS time, 'total' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_day.count 
FROM latency_day JOIN latency_bucket ON latency_bucket.bucket = latency_day.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_day."key" 
WHERE latency_day.dimension = 0 UNION ALL SELECT latency_day.day AS time, 'model' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_day.count 
FROM latency_day JOIN latency_bucket ON latency_bucket.bucket = latency_day.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_day."key" 
WHERE latency_day.dimension = 1 UNION ALL SELECT latency_day.day AS time, 'crew' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_day.count 
FROM latency_day JOIN latency_bucket ON latency_bucket.bucket = latency_day.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_day."key" 
WHERE latency_day.dimension = 2 UNION ALL SELECT latency_day.day AS time, 'agent' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_day.count 
FROM latency_day JOIN latency_bucket ON latency_bucket.bucket = latency_day.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_day."key" 
WHERE latency_day.dimension = 3 UNION ALL SELECT latency_day.day AS time, 'tool' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_day.count 
FROM latency_day JOIN latency_bucket ON latency_bucket.bucket = latency_day.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_day."key" 
WHERE latency_day.dimension = 4 UNION ALL SELECT latency_day.day AS time, 'run' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_day.count 
FROM latency_day JOIN latency_bucket ON latency_bucket.bucket = latency_day.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_day."key" 
WHERE latency_day.dimension = 5 UNION ALL SELECT latency_day.day AS time, 'ttft' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_day.count 
FROM latency_day JOIN latency_bucket ON latency_bucket.bucket = latency_day.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_day."key" 
WHERE latency_day.dimension = 6 UNION ALL SELECT latency_day.day AS time, 'provider' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_day.count 
FROM latency_day JOIN latency_bucket ON latency_bucket.bucket = latency_day.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_day."key" 
WHERE latency_day.dimension = 7 UNION ALL SELECT latency_day.day AS time, 'team' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_day.count 
FROM latency_day JOIN latency_bucket ON latency_bucket.bucket = latency_day.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_day."key" 
WHERE latency_day.dimension = 8 UNION ALL SELECT latency_day.day AS time, 'task' AS dimension, key_name.value AS "key", latency_bucket.le_seconds, latency_day.count 
FROM latency_day JOIN latency_bucket ON latency_bucket.bucket = latency_day.bucket LEFT OUTER JOIN label AS key_name ON key_name.id = latency_day."key" 
WHERE latency_day.dimension = 9;
INSERT INTO latency_bucket (bucket, le_seconds) VALUES (0, 0.0001), (1, 0.000105), (2, 0.00011025), (3, 0.000115762), (4, 0.000121551), (5, 0.000127628), (6, 0.00013401), (7, 0.00014071), (8, 0.000147746), (9, 0.000155133), (10, 0.000162889), (11, 0.000171034), (12, 0.000179586), (13, 0.000188565), (14, 0.000197993), (15, 0.000207893), (16, 0.000218287), (17, 0.000229202), (18, 0.000240662), (19, 0.000252695), (20, 0.00026533), (21, 0.000278596), (22, 0.000292526), (23, 0.000307152), (24, 0.00032251), (25, 0.000338635), (26, 0.000355567), (27, 0.000373346), (28, 0.000392013), (29, 0.000411614), (30, 0.000432194), (31, 0.000453804), (32, 0.000476494), (33, 0.000500319), (34, 0.000525335), (35, 0.000551602), (36, 0.000579182), (37, 0.000608141), (38, 0.000638548), (39, 0.000670475), (40, 0.000703999), (41, 0.000739199), (42, 0.000776159), (43, 0.000814967), (44, 0.000855715), (45, 0.000898501), (46, 0.000943426), (47, 0.000990597), (48, 0.001040127), (49, 0.001092133), (50, 0.00114674), (51, 0.001204077), (52, 0.001264281), (53, 0.001327495), (54, 0.00139387), (55, 0.001463563), (56, 0.001536741), (57, 0.001613578), (58, 0.001694257), (59, 0.00177897), (60, 0.001867919), (61, 0.001961315), (62, 0.00205938), (63, 0.002162349), (64, 0.002270467), (65, 0.00238399), (66, 0.00250319), (67, 0.002628349), (68, 0.002759766), (69, 0.002897755), (70, 0.003042643), (71, 0.003194775), (72, 0.003354513), (73, 0.003522239), (74, 0.003698351), (75, 0.003883269), (76, 0.004077432), (77, 0.004281304), (78, 0.004495369), (79, 0.004720137), (80, 0.004956144), (81, 0.005203951), (82, 0.005464149), (83, 0.005737356), (84, 0.006024224), (85, 0.006325435), (86, 0.006641707), (87, 0.006973792), (88, 0.007322482), (89, 0.007688606), (90, 0.008073037), (91, 0.008476688), (92, 0.008900523), (93, 0.009345549), (94, 0.009812826), (95, 0.010303468), (96, 0.010818641), (97, 0.011359573), (98, 0.011927552), (99, 0.012523929), (100, 0.013150126), (101, 0.013807632), (102, 0.014498014), (103, 0.015222914), (104, 0.01598406), (105, 0.016783263), (106, 0.017622426), (107, 0.018503548), (108, 0.019428725), (109, 0.020400161), (110, 0.021420169), (111, 0.022491178), (112, 0.023615737), (113, 0.024796523), (114, 0.02603635), (115, 0.027338167), (116, 0.028705075), (117, 0.030140329), (118, 0.031647346), (119, 0.033229713), (120, 0.034891199), (121, 0.036635758), (122, 0.038467546), (123, 0.040390924), (124, 0.04241047), (125, 0.044530993), (126, 0.046757543), (127, 0.04909542), (128, 0.051550191), (129, 0.054127701), (130, 0.056834086), (131, 0.05967579), (132, 0.06265958), (133, 0.065792559), (134, 0.069082187), (135, 0.072536296), (136, 0.076163111), (137, 0.079971266), (138, 0.08396983), (139, 0.088168321), (140, 0.092576737), (141, 0.097205574), (142, 0.102065853), (143, 0.107169145), (144, 0.112527603), (145, 0.118153983), (146, 0.124061682), (147, 0.130264766), (148, 0.136778004), (149, 0.143616904), (150, 0.15079775), (151, 0.158337637), (152, 0.166254519), (153, 0.174567245), (154, 0.183295607), (155, 0.192460387), (156, 0.202083407), (157, 0.212187577), (158, 0.222796956), (159, 0.233936804), (160, 0.245633644), (161, 0.257915326), (162, 0.270811093), (163, 0.284351647), (164, 0.29856923), (165, 0.313497691), (166, 0.329172576), (167, 0.345631204), (168, 0.362912765), (169, 0.381058403), (170, 0.400111323), (171, 0.420116889), (172, 0.441122734), (173, 0.46317887), (174, 0.486337814), (175, 0.510654704), (176, 0.53618744), (177, 0.562996812), (178, 0.591146652), (179, 0.620703985), (180, 0.651739184), (181, 0.684326143), (182, 0.71854245), (183, 0.754469573), (184, 0.792193052), (185, 0.831802704), (186, 0.873392839), (187, 0.917062481), (188, 0.962915605), (189, 1.011061386), (190, 1.061614455), (191, 1.114695178), (192, 1.170429937), (193, 1.228951434), (194, 1.290399005), (195, 1.354918955), (196, 1.422664903), (197, 1.493798148), (198, 1.568488056), (199, 1.646912459), (200, 1.729258082), (201, 1.815720986), (202, 1.906507035), (203, 2.001832387), (204, 2.101924006), (205, 2.207020206), (206, 2.317371217), (207, 2.433239777), (208, 2.554901766), (209, 2.682646855), (210, 2.816779197), (211, 2.957618157), (212, 3.105499065), (213, 3.260774018), (214, 3.423812719), (215, 3.595003355), (216, 3.774753523), (217, 3.963491199), (218, 4.161665759), (219, 4.369749047), (220, 4.588236499), (221, 4.817648324), (222, 5.05853074), (223, 5.311457277), (224, 5.577030141), (225, 5.855881648), (226, 6.148675731), (227, 6.456109517), (228, 6.778914993), (229, 7.117860743), (230, 7.47375378), (231, 7.847441469), (232, 8.239813543), (233, 8.65180422), (234, 9.084394431), (235, 9.538614152), (236, 10.01554486), (237, 10.516322103), (238, 11.042138208), (239, 11.594245118), (240, 12.173957374), (241, 12.782655243), (242, 13.421788005), (243, 14.092877405), (244, 14.797521276), (245, 15.537397339), (246, 16.314267206), (247, 17.129980567), (248, 17.986479595), (249, 18.885803575), (250, 19.830093753), (251, 20.821598441), (252, 21.862678363), (253, 22.955812281), (254, 24.103602895), (255, 25.30878304), (256, 26.574222192), (257, 27.902933302), (258, 29.298079967), (259, 30.762983965), (260, 32.301133164), (261, 33.916189822), (262, 35.611999313), (263, 37.392599278), (264, 39.262229242), (265, 41.225340704), (266, 43.28660774), (267, 45.450938127), (268, 47.723485033), (269, 50.109659285), (270, 52.615142249), (271, 55.245899361), (272, 58.008194329), (273, 60.908604046), (274, 63.954034248), (275, 67.151735961), (276, 70.509322759), (277, 74.034788897), (278, 77.736528341), (279, 81.623354758), (280, 85.704522496), (281, 89.989748621), (282, 94.489236052), (283, 99.213697855), (284, 104.174382748), (285, 109.383101885), (286, 114.852256979), (287, 120.594869828), (288, 126.62461332), (289, 132.955843986), (290, 139.603636185), (291, 146.583817994), (292, 153.913008894), (293, 161.608659339), (294, 169.689092306), (295, 178.173546921), (296, 187.082224267), (297, 196.43633548), (298, 206.258152254), (299, 216.571059867), (300, 227.39961286), (301, 238.769593503), (302, 250.708073178), (303, 263.243476837), (304, 276.405650679), (305, 290.225933213), (306, 304.737229874), (307, 319.974091368), (308, 335.972795936), (309, 352.771435733), (310, 370.410007519), (311, 388.930507895), (312, 408.37703329), (313, 428.795884955), (314, 450.235679202), (315, 472.747463162), (316, 496.384836321), (317, 521.204078137), (318, 547.264282043), (319, 574.627496146), (320, 603.358870953), (321, 633.5268145), (322, 665.203155225), (323, 698.463312987), (324, 733.386478636), (325, 770.055802568), (326, 808.558592696), (327, 848.986522331), (328, 891.435848448), (329, 936.00764087), (330, 982.808022914), (331, 1031.948424059), (332, 1083.545845262), (333, 1137.723137525), (334, 1194.609294402), (335, 1254.339759122), (336, 1317.056747078), (337, 1382.909584432), (338, 1452.055063653), (339, 1524.657816836), (340, 1600.890707678), (341, 1680.935243062), (342, 1764.982005215), (343, 1853.231105475), (344, 1945.892660749), (345, 2043.187293787), (346, 2145.346658476), (347, 2252.6139914), (348, 2365.24469097), (349, 2483.506925518), (350, 2607.682271794), (351, 2738.066385384), (352, 2874.969704653), (353, 3018.718189886), (354, 3169.65409938), (355, 3328.136804349), (356, 3494.543644566), (357, 3669.270826795), (358, 3852.734368134), (359, 4045.371086541), (360, 4247.639640868), (361, 4460.021622911), (362, 4683.022704057), (363, 4917.17383926), (364, 5163.032531223), (365, 5421.184157784), (366, 5692.243365673), (367, 5976.855533957), (368, 6275.698310655), (369, 6589.483226187), (370, 6918.957387497), (371, 7264.905256872), (372, 7628.150519715), (373, 8009.558045701), (374, 8410.035947986), (375, 8830.537745385), (376, 9272.064632655), (377, 9735.667864287), (378, 10222.451257502), (379, 10733.573820377), (380, 11270.252511396), (381, 11833.765136966), (382, 12425.453393814), (383, 13046.726063504), (384, 13699.06236668), (385, 14384.015485014), (386, 15103.216259264), (387, 15858.377072228), (388, 16651.295925839), (389, 17483.860722131), (390, 18358.053758237), (391, 19275.956446149), (392, 20239.754268457), (393, 21251.74198188), (394, 22314.329080974), (395, 23430.045535022), (396, 24601.547811773), (397, 25831.625202362), (398, 27123.20646248), (399, 28479.366785604), (400, 29903.335124884), (401, 31398.501881129), (402, 32968.426975185), (403, 34616.848323944), (404, 36347.690740142), (405, 38165.075277149), (406, 40073.329041006), (407, 42076.995493056), (408, 44180.845267709), (409, 46389.887531095), (410, 48709.381907649), (411, 51144.851003032), (412, 53702.093553183), (413, 56387.198230843), (414, 59206.558142385), (415, 62166.886049504), (416, 65275.230351979), (417, 68538.991869578), (418, 71965.941463057), (419, 75564.23853621), (420, 79342.45046302), (421, 83309.572986171), (422, 86400.0);
INSERT INTO crewmeter_schema (version_num) VALUES ('0003');
PRAGMA application_id = 1129467220;
