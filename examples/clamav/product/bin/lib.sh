# What preflight and check share. It needs clamscan, and $state, a folder to write in.

PATH=/usr/local/bin:/usr/bin:/bin
LC_ALL=C
export PATH LC_ALL

refuse() {
	echo "clamav signatures: $*" >&2
	exit 1
}

command -v clamscan >/dev/null || refuse "clamscan is not installed"
rm -rf "$state"/work.* # of one that was killed
work=$(mktemp -d "$state/work.XXXXXX") || refuse "cannot write to $state"
trap 'rm -rf "$work"' EXIT

# write_samples makes the EICAR test file, in two halves so that no file of the
# product is one, and a file that nothing should find.
write_samples() {
	printf '%s%s' 'X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD' '-ANTIVIRUS-TEST-FILE!$H+H*' >"$work/eicar.com"
	echo 'Nothing to see here.' >"$work/clean.txt"
}

# lines PATTERN: the first few of the report's lines that match, on one line.
lines() {
	echo "$report" | grep -E "$1" | head -n 3 | tr '\n' ' '
}

# scan DATABASE FILE... prints clamscan's report. Its status: 0 nothing found, 1
# found, 2 the signatures did not load or a file could not be read.
scan() {
	database=$1
	shift
	clamscan --database="$database" --tempdir="$work" --suppress-ok-results "$@" 2>&1
}

# must_find_eicar DATABASE
must_find_eicar() {
	report=$(scan "$1" "$work/eicar.com")
	case $? in
	0) refuse "the EICAR test file is not found" ;;
	1) ;;
	*) refuse "they do not load: $(lines 'ERROR|Error')" ;;
	esac
}

# must_pass DATABASE FILE...: none of the files may be found.
must_pass() {
	report=$(scan "$@")
	case $? in
	0) ;;
	1) refuse "a clean file is flagged: $(lines ' FOUND$')" ;;
	*) refuse "clean files could not be scanned: $(lines 'ERROR|Error')" ;;
	esac
}
