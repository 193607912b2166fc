# Real servers for the tests, the demo and the benchmarks: each runs as a child on a loopback port
# of its own, with its configuration in one temporary folder, and ends with the shell that started it.
#
#   servers_begin                     makes the folder SERVERS; to be called first
#   servers_end                       stops every server and removes the folder
#   start_sshd                        an sshd for the present user; `ssh -F $SERVERS/ssh_config target` reaches it
#   start_tinyproxy [USER:PASSWORD]   a proxy for every port; behind UPSTREAM=PORT it goes through the proxy there,
#                                     behind CLIENTS=N it has so many at once
#   start_squid [USER:PASSWORD]       a proxy for every port from 1024 on; 403 for others, and behind
#                                     METHODS='GET POST' for all methods but those; CLIENTS as above;
#                                     behind AUTH='auth_param ...' for those who authenticate so
#   start_apache [USER:PASSWORD]      a proxy; 403 for CONNECT below port 1024; behind TLS=NAME it speaks TLS with
#                                     that certificate; behind FRONT=PORT it is none, but stands in front of the relay there
#   start_cntlm PROXY DOMAIN USER:PASSWORD
#                                     a proxy that speaks NTLM with the one on the port PROXY
#   start_kdc USER:PASSWORD SERVICE   Kerberos for the realm CORP.TEST; exports what its clients need, a cache for their
#                                     tickets included, and sets KEYTAB to that of the service
#   start_privoxy                     a proxy, as its package sets it up, filters and all
#   start_nginx BACKEND...            in front of a web server on the port BACKEND, as its package sets it up;
#                                     behind NGINX='DIRECTIVE;...' with those in the location
#   start_haproxy BACKEND...          likewise
#   start_proxytunnel OPTION...       this program, as a server
#   certificates_make                 the folder TLS_DIR with all that TLS takes, see there
#   start_stunnel NAME TO [CA]        TLS with that certificate in front of the port TO; with CA for its clients only
#   server_stop PID...                stops one or more that this shell has started
#   server_kill PID                   kills all processes of one at once, as a crash would
#   server_again PID                  starts what was killed again, on the same port, and sets PID anew
#   server_restart PID                both
#   free_port                         sets PORT to one on which nobody listens
#
# Each start sets PORT and PID, and SERVER_DIR where its log is, and returns when the server listens.
# None may be called in a subshell, $(...) included: the server would end with it. A password is
# letters and digits, as tinyproxy knows no others. With several BACKENDs, nginx and haproxy give all
# requests of a session, whose paths begin with the same /t/ID, to the same one of them.

PATH=$PATH:/usr/sbin:/sbin

servers_begin() {
	# The proxies pass through it as nobody, whom root's TMPDIR may not let in.
	SERVERS=$(mktemp -d /tmp/proxytunnel.XXXXXX) || return
	export SERVERS
	chmod 711 "$SERVERS"
	mkdir "$SERVERS/pids"
}

servers_end() {
	[ -d "${SERVERS:-}" ] || return 0
	# shellcheck disable=SC2046
	server_stop $(ls "$SERVERS/pids")
	# Squid takes two seconds to end by itself; stopped sooner it leaves these.
	rm -rf "$SERVERS" "/dev/shm/$(squid_names)"*
}

# What the service names of our squids begin with: letters and digits that are not another's.
squid_names() {
	echo "squid${SERVERS##*.}"
}

server_stop() {
	local pid tries ours=()
	for pid; do
		! is_child "$pid" || ours+=("$pid")
		rm -f "$SERVERS/pids/$pid"
	done
	# The session's group, as squid's helpers and apache's workers are in it.
	for pid in "${ours[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || :; done
	for pid in "${ours[@]}"; do
		for ((tries = 0; tries < 50; tries++)); do
			server_runs "$pid" || break
			sleep 0.02
		done
		kill -KILL -- "-$pid" 2>/dev/null || :
		wait "$pid" 2>/dev/null || :
	done
}

# is_child PID: this shell has started it, and it is there; else its number may be that of a stranger by now.
is_child() {
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return
	stat=${stat##*) }
	stat=${stat#* }
	[ "${stat%% *}" = "$BASHPID" ]
}

# A zombie that another shell has not waited for yet runs no more.
server_runs() {
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null && [[ ${stat##*) } != Z* ]]
}

# The inode of the socket that listens on PORT.
port_listener() {
	awk -v port="$(printf ':%04X' "$1")" \
		'$4 == "0A" && substr($2, length($2) - 4) == port { print $10 }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# Below 32768, from where the kernel takes the ports of clients.
free_port() {
	PORT=$((RANDOM % 12000 + 20000))
	while [ -n "$(port_listener "$PORT")" ]; do PORT=$((RANDOM % 12000 + 20000)); done
}

# Whether PID itself, and no stranger who was faster, listens on PORT.
server_listens() {
	local inode
	inode=$(port_listener "$2")
	[ -n "$inode" ] && [ -n "$(find "/proc/$1/fd" -lname "socket:\[$inode\]" 2>/dev/null)" ]
}

# server_folder NAME: sets SERVER_DIR to a new folder for the files of one server.
server_folder() {
	SERVER_DIR=$(mktemp -d "$SERVERS/$1.XXX") && : >"$SERVER_DIR/log"
}

# server_start COMMAND... <CONFIGURATION: @PORT in the configuration becomes a free port.
server_start() {
	local template tries
	template=$(cat)
	printf '%s\0' "$@" >"$SERVER_DIR/command"
	for tries in 1 2 3 4 5; do
		free_port
		printf '%s\n' "${template//@PORT/$PORT}" >"$SERVER_DIR/conf"
		: >"$SERVER_DIR/log"
		server_run && return
	done
	echo "${SERVER_DIR##*/} does not start:" >&2
	tail -n 20 "$SERVER_DIR/log" >&2
	return 1
}

# The command of SERVER_DIR, with the configuration there; until it listens on PORT.
server_run() {
	local command waits
	mapfile -d '' command <"$SERVER_DIR/command"
	# A session of its own: apache ends its whole process group, and a Ctrl-C is for the caller.
	# Descriptor 3 is the one that bats waits for. Haproxy wants a folder that it may enter.
	cd / && exec setsid setpriv --pdeathsig TERM "${command[@]}" </dev/null >>"$SERVER_DIR/log" 2>&1 3>&- &
	PID=$!
	printf '%s\n' "$SERVER_DIR" "$PORT" >"$SERVERS/pids/$PID"
	for ((waits = 0; waits < 500; waits++)); do
		server_listens "$PID" "$PORT" && return
		server_runs "$PID" || break
		sleep 0.02
	done
	server_stop "$PID"
	return 1
}

server_kill() {
	local tries
	server_recall "$1" || return
	kill -KILL -- "-$1" 2>/dev/null || :
	wait "$1" 2>/dev/null || :
	for ((tries = 0; tries < 250; tries++)); do
		[ -n "$(port_listener "$PORT")" ] || return 0
		sleep 0.01
	done
	echo "${SERVER_DIR##*/} does not end" >&2
	return 1
}

server_again() {
	server_recall "$1" || return
	rm "$SERVERS/pids/$1"
	server_run || {
		echo "${SERVER_DIR##*/} does not start again:" >&2
		tail -n 20 "$SERVER_DIR/log" >&2
		return 1
	}
}

server_restart() {
	server_kill "$1" && server_again "$1"
}

# Sets SERVER_DIR and PORT to what they were when PID was started.
server_recall() {
	{ read -r SERVER_DIR && read -r PORT; } <"$SERVERS/pids/$1"
}

# No proxy needs to be root; one that starts as nobody needs no rules for becoming so.
proxy_start() {
	[ "$(id -u)" != 0 ] || {
		chown -R 65534:65534 "$SERVER_DIR"
		set -- setpriv --reuid 65534 --regid 65534 --clear-groups --pdeathsig TERM "$@"
	}
	server_start "$@"
}

start_sshd() {
	local pam=no user
	user=$(id -un)
	server_folder sshd
	ssh-keygen -q -t ed25519 -N '' -C '' -f "$SERVER_DIR/host_key" &&
		ssh-keygen -q -t ed25519 -N '' -C '' -f "$SERVER_DIR/user_key" || return
	if [ "$(id -u)" = 0 ]; then
		# sshd started as root wants it, and wants it in no other place.
		[ -d /run/sshd ] || mkdir -m 755 /run/sshd
		# Without PAM sshd lets nobody in whose password is locked, as root's is on many systems.
		case $(getent shadow "$user" | cut -d: -f2) in '!'*) pam=yes ;; esac
	fi
	server_start "$(command -v sshd)" -D -e -f "$SERVER_DIR/conf" <<-END || return
		ListenAddress 127.0.0.1:@PORT
		HostKey "$SERVER_DIR/host_key"
		PidFile none
		UsePAM $pam
		StrictModes no
		AuthorizedKeysFile "$SERVER_DIR/user_key.pub"
		AuthenticationMethods publickey
		PermitRootLogin prohibit-password
		PermitUserRC no
		PrintMotd no
		UseDNS no
		MaxStartups 100
		Subsystem sftp internal-sftp
	END
	printf '* %s\n' "$(cat "$SERVER_DIR/host_key.pub")" >"$SERVER_DIR/known_hosts"
	cat >"$SERVERS/ssh_config" <<-END
		Host target
		HostName 127.0.0.1
		Port $PORT
		User $user
		IdentityFile "$SERVER_DIR/user_key"
		IdentitiesOnly yes
		IdentityAgent none
		UserKnownHostsFile "$SERVER_DIR/known_hosts"
		GlobalKnownHostsFile /dev/null
		StrictHostKeyChecking yes
		UpdateHostKeys no
		BatchMode yes
	END
}

start_tinyproxy() {
	server_folder tinyproxy
	proxy_start tinyproxy -d -c "$SERVER_DIR/conf" <<-END
		Port @PORT
		Listen 127.0.0.1
		Timeout 600
		MaxClients ${CLIENTS:-100}
		LogLevel Connect
		${UPSTREAM:+Upstream http 127.0.0.1:$UPSTREAM}
		${1:+BasicAuth ${1%%:*} ${1#*:}}
	END
}

start_squid() {
	local auth=
	server_folder squid
	[ -z "${AUTH:-}" ] || auth="$AUTH
		acl known proxy_auth REQUIRED
		http_access deny !known"
	if [ $# -gt 0 ]; then
		htpasswd_file "$1"
		auth="auth_param basic program /usr/lib/squid/basic_ncsa_auth $SERVER_DIR/users
			auth_param basic children 2 startup=1
			acl known proxy_auth REQUIRED
			http_access deny !known"
	fi
	# Under a service name of its own, as squids of one name share memory segments.
	proxy_start squid -N -n "$(squid_names)${SERVER_DIR##*.}" -f "$SERVER_DIR/conf" <<-END
		http_port 127.0.0.1:@PORT
		visible_hostname localhost
		pid_filename none
		cache_log $SERVER_DIR/log
		access_log stdio:$SERVER_DIR/access.log
		coredump_dir $SERVER_DIR
		netdb_filename none
		pinger_enable off
		max_filedescriptors $((2 * ${CLIENTS:-462} + 100))
		shutdown_lifetime 0 seconds
		acl above port 1024-65535
		http_access deny !above
		${METHODS:+acl allowed method $METHODS
		http_access deny !allowed}
		$auth
		http_access allow all
	END
}

start_cntlm() {
	server_folder cntlm
	proxy_start cntlm -f -c "$SERVER_DIR/conf" <<-END
		Listen 127.0.0.1:@PORT
		Proxy 127.0.0.1:$1
		Domain $2
		Username ${3%%:*}
		Password ${3#*:}
		Auth NTLMv2
	END
}

# One file says it all, to the KDC and to its clients.
start_kdc() {
	local conf
	server_folder kdc
	export KRB5_CONFIG=$SERVER_DIR/conf KRB5_KDC_PROFILE=$SERVER_DIR/conf KRB5CCNAME=FILE:$SERVER_DIR/tickets
	KEYTAB=$SERVER_DIR/keytab
	conf="[libdefaults]
			default_realm = CORP.TEST
			dns_lookup_kdc = false
			dns_canonicalize_hostname = false
			rdns = false
			udp_preference_limit = 1
		[realms]
			CORP.TEST = {
				kdc = 127.0.0.1:@PORT
				kdc_listen = 127.0.0.1:@PORT
				kdc_tcp_listen = 127.0.0.1:@PORT
				database_name = $SERVER_DIR/database
				key_stash_file = $SERVER_DIR/stash
			}
		[domain_realm]
			.test = CORP.TEST
		[logging]
			kdc = FILE:$SERVER_DIR/kdc.log"
	echo "${conf//@PORT/1}" >"$SERVER_DIR/conf"
	{
		kdb5_util create -s -P master &&
			kadmin.local addprinc -pw "${1#*:}" "${1%%:*}" &&
			kadmin.local addprinc -randkey "$2" &&
			kadmin.local ktadd -k "$KEYTAB" "$2" || return
	} >"$SERVER_DIR/setup" 2>&1
	chmod 644 "$KEYTAB" # for a proxy that is nobody
	chmod 711 "$SERVER_DIR"
	server_start krb5kdc -n <<<"$conf"
}

# With mod_reqtimeout and mod_deflate as Debian has them; in front of a relay as the manual has it.
start_apache() {
	local auth='' tls='' proxies='ProxyRequests On' modules='mpm_event authn_core authn_file authz_core authz_user auth_basic proxy proxy_connect proxy_http'
	modules+=' reqtimeout filter deflate'
	server_folder apache
	[ -z "${FRONT:-}" ] || proxies="ProxyPass /t/ http://127.0.0.1:$FRONT/t/"
	if [ -n "${TLS:-}" ]; then
		cp "$TLS_DIR/$TLS.pem" "$SERVER_DIR"
		modules+=' ssl'
		tls="SSLEngine on
		SSLSessionCache none
		SSLCertificateFile $SERVER_DIR/$TLS.pem"
	fi
	if [ $# -gt 0 ]; then
		htpasswd_file "$1"
		auth="AuthType Basic
			AuthName proxy
			AuthUserFile $SERVER_DIR/users
			Require valid-user"
	fi
	proxy_start apache2 -DFOREGROUND -d "$SERVER_DIR" -f "$SERVER_DIR/conf" <<-END
		Listen 127.0.0.1:@PORT
		ServerName localhost
		DefaultRuntimeDir $SERVER_DIR
		PidFile $SERVER_DIR/pid
		ErrorLog $SERVER_DIR/log
		$(for module in $modules; do
			echo "LoadModule ${module}_module /usr/lib/apache2/modules/mod_$module.so"
		done)
		$tls
		StartServers 1
		ThreadsPerChild 50
		RequestReadTimeout header=20-40,minrate=500 body=10,minrate=500
		AddOutputFilterByType DEFLATE text/html text/plain text/xml text/css application/javascript
		$proxies
		AllowCONNECT 1024-65535
		<Proxy "*">
		$auth
		</Proxy>
	END
}

start_privoxy() {
	server_folder privoxy
	proxy_start privoxy --no-daemon "$SERVER_DIR/conf" < <(
		sed -e '/^listen-address/d' -e "s|^logdir.*|logdir $SERVER_DIR|; s|^logfile.*|logfile log|" /etc/privoxy/config
		echo 'listen-address 127.0.0.1:@PORT'
	)
}

start_nginx() {
	local balance='' to=127.0.0.1:$1
	server_folder nginx
	if [ $# -gt 1 ]; then
		to=relays
		# No other relay knows the session, so none is to be tried, however the right one fares.
		balance="map \$uri \$session { '~/(?<id>[0-9a-f]{32})(/|\$)' \$id; }
		upstream relays {
			hash \$session;
			$(printf 'server 127.0.0.1:%s max_fails=0;\n' "$@")
		}
		proxy_next_upstream off;"
	fi
	proxy_start nginx -p "$SERVER_DIR" -e "$SERVER_DIR/log" -c "$SERVER_DIR/conf" <<-END
		daemon off;
		pid $SERVER_DIR/pid;
		error_log $SERVER_DIR/log;
		worker_processes auto;
		events { worker_connections 768; }
		http {
			client_body_temp_path $SERVER_DIR/body;
			proxy_temp_path $SERVER_DIR/proxy;
			fastcgi_temp_path $SERVER_DIR/fastcgi;
			uwsgi_temp_path $SERVER_DIR/uwsgi;
			scgi_temp_path $SERVER_DIR/scgi;
			access_log $SERVER_DIR/access.log;
			sendfile on;
			tcp_nopush on;
			default_type application/octet-stream;
			gzip on;
			$balance
			server {
				listen 127.0.0.1:@PORT;
				location / {
					proxy_pass http://$to;
					${NGINX:-}
				}
			}
		}
	END
}

start_haproxy() {
	local backend
	server_folder haproxy
	# Of the path /t/ID/OFFSET the first two parts decide.
	proxy_start haproxy -db -f "$SERVER_DIR/conf" <<-END
		global
			log stdout format raw local0
		defaults
			log global
			mode http
			option httplog
			option dontlognull
			timeout connect 5000
			timeout client 50000
			timeout server 50000
		frontend relay
			bind 127.0.0.1:@PORT
			default_backend relays
		backend relays
			balance uri depth 2
			$(for backend; do
				echo "server relay$backend 127.0.0.1:$backend"
			done)
	END
}

# The form that squid and apache both read.
htpasswd_file() {
	printf '%s:%s\n' "${1%%:*}" "$(openssl passwd -apr1 "${1#*:}")" >"$SERVER_DIR/users"
}

start_stunnel() {
	server_folder stunnel
	cp "$TLS_DIR/$1.pem" ${3:+"$TLS_DIR/$3.crt"} "$SERVER_DIR"
	proxy_start stunnel "$SERVER_DIR/conf" <<-END
		foreground = yes
		pid =
		debug = notice
		[tls]
		accept = 127.0.0.1:@PORT
		connect = 127.0.0.1:$2
		cert = $SERVER_DIR/$1.pem
		${3:+CAfile = $SERVER_DIR/$3.crt
		verifyChain = yes}
	END
}

# In TLS_DIR, of each certificate NAME.crt, its key NAME.key, and both in NAME.pem:
#   ca, stranger           authorities, the first of all the others, the second of none
#   localhost              for localhost and 127.0.0.1
#   elsewhere, expired     for other names; for the same, but until yesterday
#   client                 of a client
# and the folder authorities, with ca in it as openssl looks for it.
certificates_make() {
	local name
	export TLS_DIR=$SERVERS/tls
	mkdir "$TLS_DIR" "$TLS_DIR/authorities" && for name in ca stranger; do
		certificate_key "$name" -x509 -days 2 -out "$TLS_DIR/$name.crt" || return
	done
	certificate_sign localhost 2 'DNS:localhost, IP:127.0.0.1' &&
		certificate_sign elsewhere 2 'DNS:elsewhere.test, IP:127.0.0.9' &&
		certificate_sign expired -1 'DNS:localhost, IP:127.0.0.1' &&
		certificate_sign client 2 'email:client@localhost' || return
	cp "$TLS_DIR/ca.crt" "$TLS_DIR/authorities" && openssl rehash "$TLS_DIR/authorities"
}

# certificate_key NAME OPTION...: a key, and what req(1) makes with it.
certificate_key() {
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$TLS_DIR/$1.key" "${@:2}" 2>/dev/null
}

# certificate_sign NAME DAYS NAMES: NAMES as subjectAltName has them.
certificate_sign() {
	certificate_key "$1" -out "$TLS_DIR/csr" &&
		openssl x509 -req -in "$TLS_DIR/csr" -CA "$TLS_DIR/ca.crt" -CAkey "$TLS_DIR/ca.key" -set_serial "$RANDOM" \
			-days "$2" -extfile <(echo "subjectAltName = $3") -out "$TLS_DIR/$1.crt" 2>/dev/null &&
		cat "$TLS_DIR/$1.crt" "$TLS_DIR/$1.key" >"$TLS_DIR/$1.pem"
}

# It chooses its port itself, and says on stderr where it listens.
start_proxytunnel() {
	local waits
	server_folder proxytunnel
	setsid "${PROXYTUNNEL:-./proxytunnel}" --serve -a 0 "$@" </dev/null >"$SERVER_DIR/log" 2>&1 3>&- &
	PID=$!
	: >"$SERVERS/pids/$PID"
	for ((waits = 0; waits < 500; waits++)); do
		PORT=$(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' "$SERVER_DIR/log")
		[ -z "$PORT" ] || return 0
		server_runs "$PID" || break
		sleep 0.02
	done
	cat "$SERVER_DIR/log" >&2
	return 1
}
