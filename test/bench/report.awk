# SPDX-License-Identifier: ISC
#
# Makes of what run recorded the results, in Markdown, and a bar chart in the file -v svg=FILE. It reads:
#
#	side SIDE				near, far or relay; the rest is about it
#	fact KEY WORD...
#	tool NAME KIND VERSION			KIND as run has it; NAME of a relay's is WAY/NAME
#	value MEASURE NAME VALUE CPU PEAK [SIZE]	one for each round, or "failed"; SIZE of what a relay carried
#	idle MEASURE NAME COUNT			or "ended"
#	version NAME VERSION			of what is no tool
#
# A figure is the median of the rounds; figure["down", NAME] and so on are those of the columns. Each side has
# its columns and its tools, whatever they are: helpers, proxies, or relays on each of the ways to them.

BEGIN {
	GIB = 1024 * 1024 * 1024
	side = "near"
	column("down", "down, s", "seconds for %s down", "%.3f")
	column("up", "up, s", "seconds for %s up", "%.3f")
	column("both", "both, s", "seconds for %s each way at once", "%.3f")
	column("ssh", "ssh, s", "seconds for an ssh that copies %s", "%.2f")
	column("rtt1", "1 byte, µs", "round trip of 1 byte, µs", "%.1f")
	column("rtt48", "48 bytes, µs", "round trip of 48 bytes, µs", "%.1f")
	column("start", "start, ms", "from spawn to the first byte, ms", "%.3f")
	column("peak", "peak, KiB", "peak resident memory, KiB", "%.0f")
	column("cpu_down", "CPU down", "CPU seconds a GiB, down", "%.3f")
	column("cpu_up", "CPU up", "CPU seconds a GiB, up", "%.3f")
	column("cpu_both", "CPU both", "CPU seconds a GiB, both ways", "%.3f")
	side = "far"
	column("far-down", "down, s", "proxy: seconds for %s down", "%.3f")
	column("far-up", "up, s", "proxy: seconds for %s up", "%.3f")
	column("far-both", "both, s", "proxy: seconds for %s each way at once", "%.3f")
	column("cpu_far-down", "CPU down", "proxy: CPU seconds a GiB, down", "%.3f")
	column("cpu_far-up", "CPU up", "proxy: CPU seconds a GiB, up", "%.3f")
	column("cpu_far-both", "CPU both", "proxy: CPU seconds a GiB, both ways", "%.3f")
	column("far-new", "new, /s", "proxy: new tunnels a second (more is better)", "%.0f", 1)
	column("cpu_far-new", "new, /CPU s", "proxy: new tunnels a CPU second (more is better)", "%.0f", 1)
	column("far-some", "some, /s", "proxy: new tunnels a second, some at once (more is better)", "%.0f", 1)
	column("cpu_far-some", "some, /CPU s", "proxy: the same a CPU second, some at once (more is better)", "%.0f", 1)
	column("far-idle", "KiB a tunnel", "proxy: KiB of an idle tunnel", "%.1f")
	side = "relay"
	column("relay-down", "down, MB/s", "relay: MB/s down (more is better)", "%.1f", 1)
	column("relay-up", "up, MB/s", "relay: MB/s up (more is better)", "%.1f", 1)
	column("cpu_relay-down", "CPU down", "relay: CPU seconds a GiB, down", "%.3f")
	column("cpu_relay-up", "CPU up", "relay: CPU seconds a GiB, up", "%.3f")
	column("relay-rtt", "1 byte, µs", "relay: round trip of 1 byte, µs", "%.1f")
}

function column(key, heading, title, format, more)
{
	keys[side, ++columns[side]] = key
	headings[key] = heading
	titles[key] = title
	formats[key] = format
	more_is_better[key] = more
}

$1 == "side" {
	side = $2
	seen[side] = 1
}

$1 == "fact" {
	key = $2
	sub(/^fact [^ ]+ /, "")
	fact[side, key] = $0
}

$1 == "tool" {
	names[side, ++tools[side]] = $2
	kind[$2] = $3
	version[side, $2] = $4
	label[$2] = label_of($2)
}

$1 == "value" && $4 == "failed" {
	failed[$2, $3] = 1
	next
}

$1 == "value" && side == "far" {
	add($2, $3, $4)
	if ($2 == "far-down" || $2 == "far-up")
		add("cpu_" $2, $3, $5 * GIB / fact[side, "size"])
	if ($2 == "far-both")
		add("cpu_" $2, $3, $5 * GIB / fact[side, "size"] / 2)
	if (($2 == "far-new" || $2 == "far-some") && $5 > 0)
		add("cpu_" $2, $3, fact[side, "openings"] / $5)
	if ($2 == "far-idle")
		add("whole", $3, $6 / 1024)
}

$1 == "value" && side == "near" {
	add($2, $3, $2 == "start" ? $4 / 1000 : $4)
	if (kind[$3] == "direct" || kind[$3] == "again" && $3 ~ /^direct/)
		next
	if ($2 == "down" || $2 == "up")
		add("cpu_" $2, $3, $5 * GIB / fact[side, "size"])
	if ($2 == "both") {
		add("cpu_both", $3, $5 * GIB / fact[side, "size"] / 2)
		if ($6 > 0)
			add("peak", $3, $6)
	}
	if ($2 == "down")
		add("cpu", $3, $5 * 1000)
}

$1 == "value" && side == "relay" && $2 == "relay-rtt" {
	add($2, $3, $4)
}

$1 == "value" && side == "relay" && $2 != "relay-rtt" {
	add($2, $3, $7 / 1000000 / $4)
	if ($5 >= 0)
		add("cpu_" $2, $3, $5 * GIB / $7)
}

$1 == "version" {
	others[side, ++other_count[side]] = $2
	version[side, $2] = $3
}

$1 == "idle" {
	idle[$2, $3] = $4
	idle_seen = 1
}

END {
	side_settle("near", "cpu")
	side_settle("far", "whole")
	side_settle("relay")
	markdown()
	chart()
}

# --- figures ------------------------------------------------------------------

function label_of(name)
{
	sub(/^far\//, "50 ms/", name)
	sub(/\//, ": ", name)
	sub(/-again$/, " (again)", name)
	sub(/-fdpass$/, " --fdpass", name)
	sub(/-portable$/, " PORTABLE", name)
	sub(/-static$/, " static", name)
	sub(/^old-/, "old ", name)
	return name
}

function add(key, name, value)
{
	values[key, name, ++count[key, name]] = value
}

# The median; sorts by insertion, as there are few.
function settle(key, name,	n, i, j, sorted, value)
{
	n = count[key, name]
	if (!n)
		return
	for (i = 1; i <= n; i++) {
		value = values[key, name, i]
		for (j = i - 1; j > 0 && sorted[j] > value; j--)
			sorted[j + 1] = sorted[j]
		sorted[j + 1] = value
	}
	figure[key, name] = (sorted[int((n + 1) / 2)] + sorted[int(n / 2) + 1]) / 2
}

# All figures of a side, and those of one more key that is no column.
function side_settle(which, more,	i, j)
{
	side = which
	for (i = 1; i <= tools[side]; i++) {
		for (j = 1; j <= columns[side]; j++)
			settle(keys[side, j], names[side, i])
		if (more)
			settle(more, names[side, i])
	}
	for (j = 1; j <= columns[side]; j++)
		compare(keys[side, j])
}

function known(key, name)
{
	return (key, name) in figure
}

# Sets best[key], the name of the best other ("-": none), and noise[key], how far the two of an A/A pair differ at most.
function compare(key,	i, name)
{
	noise[key] = 0
	best[key] = "-"
	for (i = 1; i <= tools[side]; i++) {
		name = names[side, i]
		if (!known(key, name))
			continue
		if (kind[name] == "other" && (best[key] == "-" || is_better(key, name, best[key])))
			best[key] = name
		if (kind[name] == "again" && apart(key, name) > noise[key])
			noise[key] = apart(key, name)
	}
}

# How far a tool measured again differs from itself.
function apart(key, name,	half, difference)
{
	half = name
	sub(/-again$/, "", half)
	if (ratio(key, name, half) < 0)
		return 0
	difference = ratio(key, name, half) - 1
	return difference < 0 ? -difference : difference
}

function is_better(key, name, other)
{
	return more_is_better[key] ? figure[key, name] > figure[key, other] : figure[key, name] < figure[key, other]
}

function best_label(key)
{
	return best[key] == "-" ? "none" : label[best[key]]
}

# What a figure is of another, or -1.
function ratio(key, name, to)
{
	return known(key, name) && known(key, to) && figure[key, to] > 0 ? figure[key, name] / figure[key, to] : -1
}

function shown(key, name)
{
	return known(key, name) ? sprintf(formats[key], figure[key, name]) : (key, name) in failed ? "fails" : "-"
}

function size_text(which,	size)
{
	size = fact[side, which]
	return size % GIB == 0 ? size / GIB " GiB" : size / 1048576 " MiB"
}

# --- Markdown: tables that are also legible as they are -------------------------

function cell(text)
{
	cells[rows, ++row_cells] = text
	if (row_cells > table_columns)
		table_columns = row_cells
	if (width(text) > widths[row_cells])
		widths[row_cells] = width(text)
}

# The last one, with another text.
function cell_again(text)
{
	row_cells--
	cell(text)
}

function row(text)
{
	rows++
	row_cells = 0
	cell(text)
}

# The two bytes of a µ are one column wide.
function width(text)
{
	gsub(/µ/, "u", text)
	return length(text)
}

function padding(text, size)
{
	return sprintf("%" (size - width(text)) "s", "")
}

function table_print(numeric,	r, c)
{
	for (r = 1; r <= rows; r++) {
		for (c = 1; c <= table_columns; c++)
			if (c == 1 || !numeric)
				printf "| %s%s ", cells[r, c], padding(cells[r, c], widths[c])
			else
				printf "| %s%s ", padding(cells[r, c], widths[c]), cells[r, c]
		print "|"
		if (r == 1)
			rule(numeric)
	}
	print ""
	rows = row_cells = table_columns = 0
	split("", cells)
	split("", widths)
}

function rule(numeric,	c, text)
{
	for (c = 1; c <= table_columns; c++) {
		text = sprintf("%" widths[c] "s", "")
		gsub(/ /, "-", text)
		if (c > 1 && numeric)
			sub(/-$/, ":", text)
		printf "| %s ", text
	}
	print "|"
}

function heads(	j)
{
	row("")
	for (j = 1; j <= columns[side]; j++)
		cell(headings[keys[side, j]])
}

function markdown()
{
	introduction()
	side = "near"
	if (seen[side])
		near_side()
	side = "far"
	if (seen[side])
		far_side()
	side = "relay"
	if (seen[side])
		relay_side()
	versions()
}

function measured()
{
	return fact[side, "date"] ", " fact[side, "machine"] ", medians of " fact[side, "rounds"] " rounds"
}

function when()
{
	print measured() ".\n"
}

function near_side()
{
	print "## Medians\n"
	when()
	print "down, up, both: seconds from the first byte of the tunnel until " size_text("size") " was carried one way, or each way at once;"
	print "ssh: seconds of a whole ssh that copies " size_text("size") ". Round trips: the median of " fact[side, "trips"] ". start: from the spawn to the"
	print "first byte of the tunnel, the median of " fact[side, "starts"] ". peak: resident memory at the end of both. CPU: seconds of user and"
	print "system time of the tool for each GiB carried.\n"
	medians()
	print "## Ratios\n"
	print "What each figure is of the direct connection's, and of that of the best other tool.\n"
	ratios()
	print "## Goals\n"
	goals()
	if (idle_seen)
		idle_table()
}

function far_side()
{
	print "## The far side\n"
	when()
	print "This program as the proxy (`--serve`), beside other proxies that allow CONNECT: the same client, which is also the"
	print "target, asks each of them for tunnels to itself. down, up, both: seconds for " size_text("size") " one way, or each way at once."
	print "CPU: seconds of user and system time of all the processes of the proxy, for each GiB carried. new: " fact[side, "openings"] " tunnels,"
	print "one after the other, each closed when its first byte has come; as many a second, and as many for each CPU second of"
	print "the proxy; some: the same, but " fact[side, "at_once"] " are asked for at once. KiB a tunnel: what " fact[side, "tunnels"] " idle tunnels, that have carried 4 KiB each"
	print "way, add to the private memory and the page tables of all the processes of the proxy; the kernel's own memory for"
	print "sockets, processes and threads is not in it. Each round starts each proxy anew; each writes its log.\n"
	medians()
	memory_words()
	print "### Ratios to the best other proxy\n"
	ratios()
	print "### Goals of the far side\n"
	far_goals()
}

function relay_side()
{
	print "## The relay\n"
	when()
	print "Tunnels without CONNECT: this program (`--serve` and `--relay`) beside httptunnel (hts and htc), with no options but"
	print "those that say where to go. The ways: direct; squid, tinyproxy, privoxy and apache as forward proxies; tinyproxy and"
	print "squid in a row (chain); nginx and haproxy in front of the relay; squid behind a delay of 25 ms each way (50 ms). All"
	print "proxies have plain configurations. down, up: what was carried a second, of " size_text("size") "; at 50 ms, of " size_text("far_size") ", and of " size_text("far_least")
	print "with httptunnel, which is slow there. CPU: seconds of user and system time of both ends of the tunnel, and of all"
	print "processes that they start, from start to end, for each GiB carried; the proxies' are not in it. 1 byte: the median"
	print "of " fact[side, "trips"] " round trips, the proxy on the same processor as the rest. What \"fails\" had not come to its end within " fact[side, "limit"] " s,"
	print "and was not tried again.\n"
	medians()
	print "### Ratios to httptunnel on the same way\n"
	relay_ratios()
	print "### Goals of the relay\n"
	relay_goals()
}

# Each way is where its tool is this program.
function relay_ratios(	i, j, name, key)
{
	heads()
	for (i = 1; i <= tools[side]; i++) {
		name = names[side, i]
		if (kind[name] != "ours")
			continue
		row(way_of(name))
		for (j = 1; j <= columns[side]; j++) {
			key = keys[side, j]
			cell(!known(key, name) ? shown(key, name) : !known(key, httptunnel_of(name)) ? shown(key, httptunnel_of(name)) : \
			     ratio_text(ratio(key, name, httptunnel_of(name))))
		}
	}
	table_print(1)
}

function way_of(name)
{
	name = label[name]
	sub(/: .*/, "", name)
	return name
}

function httptunnel_of(name)
{
	sub(/\/.*/, "/httptunnel", name)
	return name
}

# What a process for each tunnel takes, beside a thread.
function memory_words()
{
	if (!known("far-idle", "proxytunnel") || !known("far-idle", "tinyproxy"))
		return
	print "Here each tunnel is a process: with " fact[side, "tunnels"] " of them idle, that takes " shown("far-idle", "proxytunnel") " KiB for each" static_words() ", where a thread"
	printf "of tinyproxy takes %s KiB. All of it, with the proxy itself: %.1f MiB beside %.1f MiB.\n\n", shown("far-idle", "tinyproxy"),
		figure["whole", "proxytunnel"], figure["whole", "tinyproxy"]
}

function static_words()
{
	return known("far-idle", "proxytunnel-static") ? " (static: " shown("far-idle", "proxytunnel-static") ")" : ""
}

function introduction()
{
	print "# The tunnel, measured\n"
	print "Written by `make bench`. All figures are medians of several rounds; each round measures every tool once, in an"
	print "order that rotates. All of it runs on one machine, over loopback, so the tool shares the processors with both"
	print "of its neighbours. Tools are started as ssh starts them: between two pipes, the first bytes written at once;"
	print "`--fdpass` with a socket. For round trips and starts all of them run on one processor, as otherwise it matters"
	print "most whether the scheduler has to wake another one. \"Again\" is the same command measured as if it were another"
	print "tool; how far the two differ is the noise.\n"
	print "![the same as bars](RESULTS.svg)\n"
}

function medians(	i, j)
{
	heads()
	for (i = 1; i <= tools[side]; i++) {
		row(label[names[side, i]])
		for (j = 1; j <= columns[side]; j++)
			cell(shown(keys[side, j], names[side, i]))
	}
	row("noise")
	for (j = 1; j <= columns[side]; j++)
		cell(sprintf("%.1f %%", noise[keys[side, j]] * 100))
	table_print(1)
	failures()
}

# What has failed in every round says so in the table.
function failures(	i, j, text)
{
	for (j = 1; j <= columns[side]; j++)
		for (i = 1; i <= tools[side]; i++)
			if (known(keys[side, j], names[side, i]) && (keys[side, j], names[side, i]) in failed)
				text = text sprintf("; %s (%s)", label[names[side, i]], headings[keys[side, j]])
	if (text)
		print "Failed in some of the rounds" substr(text, 2) ".\n"
}

function ratio_text(value)
{
	return value < 0 ? "-" : sprintf("%.2f", value)
}

function ratios(	i, j, name)
{
	heads()
	for (i = 1; i <= tools[side]; i++) {
		name = names[side, i]
		if (kind[name] == "again" || kind[name] == "direct")
			continue
		row(label[name])
		for (j = 1; j <= columns[side]; j++)
			cell((side == "near" ? ratio_text(ratio(keys[side, j], name, "direct")) " / " : "") \
			     ratio_text(ratio(keys[side, j], name, best[keys[side, j]])))
	}
	row("the best other")
	for (j = 1; j <= columns[side]; j++)
		cell(best_label(keys[side, j]))
	table_print(1)
}

# --- the goals ------------------------------------------------------------------

# A row: what the figure is, the most that it may be (or the least, if more is better), and whether it is, given the noise.
function goal(what, limit, format, value, spread, more)
{
	row(what)
	cell((side == "near" ? "" : more ? "at least " : "at most ") sprintf(format, limit))
	cell(value < 0 ? "-" : sprintf(format, value))
	cell(value < 0 ? "not measured" : verdict(more ? limit : value, more ? value : limit, 1 + spread))
}

function verdict(less, most, slack)
{
	return less <= most ? "held" : less <= most * slack ? "held within the noise" : "**not held**"
}

function goal_other(what, key, name, most)
{
	goal(what " / the best other (" best_label(key) ")", most, "%.3f", ratio(key, name, best[key]), noise[key])
}

function goal_value(what, most, format, key, name)
{
	goal(what, most, format, known(key, name) ? figure[key, name] : -1, 0)
}

function goal_idle(what, measure,	seen)
{
	seen = idle[measure, "proxytunnel"]
	goal(what ", wake-ups in " fact[side, "idle"] " s", 0, "%d", seen ~ /^[0-9]+$/ ? seen : -1, 0)
}

function goals(	fdpass, n, i, key)
{
	row("figure")
	cell("at most"); cell("is"); cell("")
	goal("down, wall / direct", 1.3, "%.3f", ratio("down", "proxytunnel", "direct"), noise["down"])
	goal_other("down, wall", "down", "proxytunnel", 0.5)
	goal_other("down, CPU", "cpu_down", "proxytunnel", 0.3)
	goal_other("up, wall", "up", "proxytunnel", 1)
	goal_other("up, CPU", "cpu_up", "proxytunnel", 0.8)
	goal_other("both, CPU", "cpu_both", "proxytunnel", 0.6)
	goal_other("round trip of 1 byte", "rtt1", "proxytunnel", 1.03)
	goal("start, dynamic / corkscrew", 1, "%.3f", ratio("start", "proxytunnel", "corkscrew"), noise["start"])
	goal("start, static / corkscrew", 0.5, "%.3f", ratio("start", "proxytunnel-static", "corkscrew"), noise["start"])
	goal_other("peak memory", "peak", "proxytunnel", 1)
	goal_value("peak memory, static, KiB", 1023, "%d", "peak", "proxytunnel-static")
	n = split("down up both rtt1 rtt48", fdpass)
	for (i = 1; i <= n; i++) {
		key = fdpass[i]
		goal("--fdpass, " headings[key] " / direct", 1, "%.3f", ratio(key, "proxytunnel-fdpass", "direct"), noise[key])
	}
	goal_value("--fdpass, CPU in all, ms", 2, "%.2f", "cpu", "proxytunnel-fdpass")
	goal_idle("idle", "idle")
	goal_idle("half-closed", "half")
	table_print(0)
	print "\"Within the noise\": above by less than the A/A pairs differ.\n"
}

function far_goal(what, key, name)
{
	goal(what " / the best other (" best_label(key) ")", 1, "%.3f", ratio(key, name, best[key]), noise[key], more_is_better[key])
}

function far_goals()
{
	row("figure")
	cell("goal"); cell("is"); cell("")
	far_goal("CPU a GiB, down", "cpu_far-down", "proxytunnel")
	far_goal("CPU a GiB, up", "cpu_far-up", "proxytunnel")
	far_goal("CPU a GiB, both", "cpu_far-both", "proxytunnel")
	far_goal("new tunnels a CPU second", "cpu_far-new", "proxytunnel")
	far_goal("new tunnels a CPU second, static", "cpu_far-new", "proxytunnel-static")
	far_goal("new tunnels a CPU second, some at once", "cpu_far-some", "proxytunnel")
	far_goal("new tunnels a CPU second, some at once, static", "cpu_far-some", "proxytunnel-static")
	goal_value("an idle tunnel, KiB", 100, "%.1f", "far-idle", "proxytunnel")
	goal_value("an idle tunnel, KiB, static", 100, "%.1f", "far-idle", "proxytunnel-static")
	table_print(0)
}

# The noise is that of this way.
function relay_goal(what, way, key, limit, more, is_ratio,	name, value)
{
	name = way "/proxytunnel"
	value = is_ratio ? ratio(key, name, httptunnel_of(name)) : known(key, name) ? figure[key, name] : -1
	goal(what ", " way_of(name) (is_ratio ? " / httptunnel" : ""), limit, is_ratio ? "%.2f" : formats[key], value,
	     apart(key, name "-again"), more)
	if (is_ratio && !known(key, httptunnel_of(name)) && (key, httptunnel_of(name)) in failed)
		cell_again("httptunnel fails")
	if ((key, name) in failed)
		cell_again("**not held**")
}

function relay_goals(	n, i, way, ways)
{
	row("figure")
	cell("goal"); cell("is"); cell("")
	n = split("direct squid haproxy far", ways)
	for (i = 1; i <= n; i++) {
		relay_goal("down", ways[i], "relay-down", 2, 1, 1)
		relay_goal("up", ways[i], "relay-up", 2, 1, 1)
	}
	relay_goal("down, MB/s", "far", "relay-down", 30, 1)
	relay_goal("up, MB/s", "far", "relay-up", 30, 1)
	relay_goal("round trip", "direct", "relay-rtt", 3, 0, 1)
	n = split("direct squid tinyproxy privoxy apache chain nginx haproxy", ways)
	for (i = 1; i <= n; i++)
		relay_goal("round trip, µs", ways[i], "relay-rtt", ways[i] == "tinyproxy" || ways[i] == "chain" ? 2000 : 1000)
	table_print(0)
}

function idle_text(measure, name)
{
	return (measure, name) in idle ? (idle[measure, name] == "ended" ? "leaves" : idle[measure, name]) : "-"
}

function idle_table(	i, name)
{
	print "## Idle\n"
	print "System calls in " fact[side, "idle"] " s of a tunnel that carries nothing, by strace: as it stands, and after the end of stdin"
	print "(a tool that leaves then loses what the far end still sends).\n"
	row("")
	cell("standing"); cell("half-closed")
	for (i = 1; i <= tools[side]; i++) {
		name = names[side, i]
		if (!(("idle", name) in idle))
			continue
		row(label[name])
		cell(idle_text("idle", name))
		cell(idle_text("half", name))
	}
	table_print(1)
}

function versions(	which, n, i)
{
	print "## Versions\n"
	row("")
	cell("version")
	n = split("near far relay", which)
	for (i = 1; i <= n; i++) {
		side = which[i]
		if (seen[side])
			side_versions()
	}
	table_print(0)
}

function side_versions(	i, name)
{
	for (i = 1; i <= tools[side]; i++) {
		name = names[side, i]
		if (kind[name] != "again")
			version_row(name, version[side, name])
	}
	for (i = 1; i <= other_count[side]; i++)
		version_row(others[side, i], version[side, others[side, i]])
}

# What is on several sides, or ways, is named once, unless it has become another.
function version_row(name, number)
{
	sub(/^.*\//, "", name)
	if (number == "-" || (name, number) in versioned)
		return
	versioned[name, number] = 1
	row(label_of(name))
	cell(number)
}

# --- the chart: a panel for each column, two side by side ------------------------

function out(text)
{
	print text >svg
}

function chart(	top)
{
	top = 52
	chart_head(top + side_height("near") + side_height("far") + side_height("relay"))
	side_chart("near", top)
	side_chart("far", top + side_height("near"))
	side_chart("relay", top + side_height("near") + side_height("far"))
	out("</svg>")
	close(svg)
}

# Whether a panel has a bar for it; of a relay's ways, not all are measured in all columns.
function in_panel(key, name)
{
	return kind[name] != "again" && (known(key, name) || (key, name) in failed || side != "relay" && kind[name] != "direct")
}

# Of a column's panel and the one beside it.
function panel_height(j,	i, name, bars, bars_beside)
{
	for (i = 1; i <= tools[side]; i++) {
		bars += in_panel(keys[side, j], names[side, i])
		bars_beside += j < columns[side] && in_panel(keys[side, j + 1], names[side, i])
	}
	return (bars > bars_beside ? bars : bars_beside) * 18 + 48
}

function side_height(which,	j, height)
{
	side = which
	for (j = 1; seen[side] && j <= columns[side]; j += 2)
		height += panel_height(j)
	return height ? height + 24 : 0
}

function side_chart(which, y,	j)
{
	side = which
	if (!seen[side])
		return
	out("<text class=\"small\" x=\"20\" y=\"" y "\">" measured() "</text>")
	y += 18
	for (j = 1; j <= columns[side]; j += 2) {
		panel(keys[side, j], 20, y)
		if (j < columns[side])
			panel(keys[side, j + 1], 460, y)
		y += panel_height(j)
	}
}

# It brings its background, so that it is legible on any page.
function chart_head(height)
{
	out("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"880\" height=\"" height "\" viewBox=\"0 0 880 " height "\" role=\"img\">")
	out("<title>proxytunnel beside a direct connection, other helpers and other proxies</title>")
	out("<style>")
	out("text { font: 12px sans-serif; fill: #24292f }")
	out(".ground { fill: #ffffff } .title { font-weight: bold } .small { fill: #57606a }")
	out(".direct { fill: #2da44e } .ours { fill: #0969da } .other { fill: #8c959f }")
	out("@media (prefers-color-scheme: dark) {")
	out("text { fill: #e6edf3 } .ground { fill: #0d1117 } .small { fill: #9198a1 }")
	out(".direct { fill: #3fb950 } .ours { fill: #4493f8 } .other { fill: #6e7681 } }")
	out("</style>")
	out("<rect class=\"ground\" width=\"880\" height=\"" height "\" rx=\"6\"/>")
	out("<text class=\"title\" x=\"20\" y=\"28\">proxytunnel beside a direct connection, other helpers and other proxies: less is better, unless it says more</text>")
}

# Bars longer than twice the median one are cut, and end in an arrow.
function panel(key, x, y,	i, n, name, scale)
{
	out("<text class=\"title\" x=\"" x "\" y=\"" y + 14 "\">" sprintf(titles[key], size_text("size")) "</text>")
	scale = panel_scale(key)
	for (i = 1; i <= tools[side]; i++) {
		name = names[side, i]
		if (!in_panel(key, name))
			continue
		y += 18
		out("<text x=\"" x + 145 "\" y=\"" y + 13 "\" text-anchor=\"end\">" label[name] "</text>")
		bar(key, name, x + 152, y, scale)
	}
}

function panel_scale(key,	i, name, all, most)
{
	all = 0
	for (i = 1; i <= tools[side]; i++) {
		name = names[side, i]
		if (kind[name] == "again" || !known(key, name))
			continue
		add("chart", key, figure[key, name])
		if (figure[key, name] > most)
			most = figure[key, name]
	}
	settle("chart", key)
	if (known("chart", key) && most > 3 * figure["chart", key])
		most = 3 * figure["chart", key]
	return most > 0 ? most : 1
}

function bar(key, name, x, y, scale,	length_, cut)
{
	length_ = known(key, name) ? figure[key, name] / scale * 190 : 0
	cut = length_ > 190.001
	if (cut)
		length_ = 190
	out(sprintf("<path class=\"%s\" d=\"M%d %dh%.1f%sh-%.1fz\"/>", kind[name], x, y + 3, length_, cut ? "l6 6l-6 6" : "v12", length_))
	out(sprintf("<text class=\"small\" x=\"%.1f\" y=\"%d\">%s</text>", x + length_ + (cut ? 10 : 5), y + 13, shown(key, name)))
}
