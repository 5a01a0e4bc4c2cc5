# Images by Podman, from its own store on the node. Part of container.sh.
#
# https://docs.podman.io/en/latest/markdown/podman-run.1.html

pull() {
  cd "$xm_images" || return
  podman pull --quiet "oci:${xm_layout##*/}"
}

load() (
  prepare
  exec 9>> "$xm_layout.$xm_host.lock"
  flock 9 2> /dev/null
  podman image exists "$xm_image" || pull > "$xm_scratch/said" 2>&1
)

run_podman() {
  podman image exists "$xm_image" 2> /dev/null || load || explain load
  xm_made=0
  for xm_variable in $(given); do
    is_set "$xm_variable" && set -- "$@" --env "$xm_variable" && xm_made=$((xm_made + 2))
  done
  while [ "$1" != -- ]; do
    case $1 in
      bind | bind-ro)
        case $2$3,$1 in
          # It reads no quotes: a colon parts the fields of the one option, a comma those of the other.
          *,*,bind) set -- "$@" --volume "$2:$3" ;;
          *,*,bind-ro) set -- "$@" --volume "$2:$3:ro" ;;
          *,bind) set -- "$@" --mount "type=bind,source=$2,target=$3" ;;
          *) set -- "$@" --mount "type=bind,source=$2,target=$3,ro=true" ;;
        esac
        shift 3
        xm_made=$((xm_made + 2))
        ;;
      env)
        case $2 in
          # What Podman or this shell would heed goes by value; all else is not for everybody's eyes.
          PATH | HOME | TMPDIR | USER | LD_* | XDG_* | CONTAINER* | PODMAN* | DOCKER_* | STORAGE_* | REGISTRY_* | \
            *_proxy | *_PROXY | IFS | OPTIND | PPID | UID | EUID | BASH* | SHELLOPTS | xm_*)
            eval "set -- \"\$@\" --env \"\$2=\$XM_ENV_$2\""
            ;;
          *) set_for '' "$2" "XM_ENV_$2" && set -- "$@" --env "$2" ;;
        esac
        unset "XM_ENV_$2"
        shift 2
        xm_made=$((xm_made + 2))
        ;;
      pass) { ! is_set "$2" || { set -- "$@" --env "$2" && xm_made=$((xm_made + 2)); }; } && shift 2 ;;
      option) set -- "$@" "$2" && shift 2 && xm_made=$((xm_made + 1)) ;;
      *) fail "container.sh does not know the word $1." ;;
    esac
  done
  shift
  xm_words=$(($# - xm_made))
  if [ "$xm_gpus" = 1 ]; then
    if [ -e /etc/cdi ] || [ -e /var/run/cdi ]; then
      set -- "$@" --device nvidia.com/gpu=all
    else
      for xm_device in /dev/nvidia* /dev/kfd /dev/dri; do
        [ ! -e "$xm_device" ] || set -- "$@" --device "$xm_device"
      done
    fi
  fi
  [ "$xm_shm" = 0 ] || set -- "$@" --shm-size "$xm_shm"
  # The first of the words is the program: the entry point stands among them.
  set -- "$@" --workdir "$xm_workdir" --entrypoint '' --name "$xm_name" "$xm_image"
  while [ "$xm_words" -gt 0 ]; do
    set -- "$@" "$1" && shift && xm_words=$((xm_words - 1))
  done
  guard
  podman run --rm --pull never --network host --security-opt label=disable "$@" 8>&-
  finish $?
}
