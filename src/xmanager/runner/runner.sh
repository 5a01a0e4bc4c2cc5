# Runs one program and keeps its exit code in a status file, whoever else dies meanwhile.
#
#   /bin/sh -c TEXT xm-runner STATUS_FILE ATTEMPT BOOT CWD PROGRAM [ARGUMENT...]
#
# POSIX sh, builtins only: dash, bash and busybox run it. Standard input is /dev/null, standard output the log, and
# standard error is /dev/null for the shell (which would add 'Killed' to the log) but the log for the program.

# A handler, not '': what is ignored stays ignored in the program, what is handled gets its default back there.
trap : HUP INT QUIT USR1 USR2 ALRM TERM

XM_RUNNER_STATUS=$1
echo "started $2 $$ $3" >>"$XM_RUNNER_STATUS"
# The redirections stand in the subshell, which exec replaces, so that the waiting shell's own remarks go nowhere.
XM_RUNNER_CODE=0
(cd -- "$4" 2>&1 && shift 4 && exec "$@" 2>&1) || XM_RUNNER_CODE=$?
echo "exited $XM_RUNNER_CODE" >>"$XM_RUNNER_STATUS"
exit "$XM_RUNNER_CODE"
