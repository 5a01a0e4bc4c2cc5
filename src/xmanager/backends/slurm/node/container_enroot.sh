# Images by enroot, as a squashfs that is made of the layout: enroot itself reads registries only. Part of container.sh.
#
# pyxis is Slurm's way to call enroot; what it does here is done without it, within the job's own step.
# https://github.com/NVIDIA/enroot/blob/master/doc/image-format.md and doc/cmd/start.md there

# A value as a word that a shell reads back, byte for byte.
quote() {
  xm_quoted=$(printf '%s_' "$1" | sed "s/'/'\\\\''/g")
  printf "'%s'" "${xm_quoted%_}"
}

# `export_to FILE NAME VALUE`
export_to() {
  printf 'export %s=%s\n' "$2" "$(quote "$3")." | sed '$s/\.$//' >> "$1"
}

# What the layer has as a folder becomes one in the root: a link there would lead out of it.
merge_folders() {
  find . -mindepth 1 -type d | while IFS= read -r xm_folder; do
    if [ -L "$xm_root/$xm_folder" ] || [ ! -d "$xm_root/$xm_folder" ]; then
      rm -rf "${xm_root:?}/$xm_folder"
      mkdir "$xm_root/$xm_folder" || exit
    fi
  done
}

# https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md#whiteouts
apply_whiteouts() {
  find . -name '.wh.*' ! -type d | while IFS= read -r xm_whiteout; do
    xm_folder=${xm_whiteout%/*} xm_gone=${xm_whiteout##*/.wh.}
    if [ "$xm_gone" = .wh..opq ]; then
      find "$xm_root/$xm_folder" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
    else
      rm -rf "${xm_root:?}/$xm_folder/$xm_gone"
    fi
    rm -f "$xm_whiteout"
  done
}

merge() (
  cd "$xm_layer" || exit
  merge_folders && apply_whiteouts && merge_folders || exit
  find . ! -type d | while IFS= read -r xm_file; do
    if [ -d "$xm_root/$xm_file" ] && [ ! -L "$xm_root/$xm_file" ]; then
      rm -rf "${xm_root:?}/$xm_file"
    fi
  done
  cp -a --link --remove-destination . "$xm_root"
)

# The entry point of any image is this: variables of the image, of the job, its folder, its program.
write_rc() {
  [ ! -L "$xm_root/etc" ] || return 1
  mkdir -p "$xm_root/etc"
  rm -rf "$xm_root/etc/rc" "$xm_root/etc/fstab" "$xm_root/etc/environment" "$xm_root/etc/xmanager"
  : > "$xm_root/etc/fstab"
  : > "$xm_root/etc/environment"
  : > "$xm_root/etc/xmanager"
  while IFS= read -r xm_line; do
    case ${xm_line%%=*} in '' | *[!A-Za-z0-9_]*) continue ;; esac
    export_to "$xm_root/etc/rc" "${xm_line%%=*}" "${xm_line#*=}"
  done < "$xm_layout/environment"
  cat >> "$xm_root/etc/rc" << 'END'
. /etc/xmanager
cd -- "$1" || exit 126
shift
exec "$@"
END
}

convert_to_squashfs() {
  xm_root=$xm_scratch/root xm_layer=$xm_scratch/layer
  mkdir "$xm_root" && chmod 755 "$xm_root" || return
  while IFS= read -r xm_blob; do
    mkdir "$xm_layer" || return
    tar --extract --file "$xm_layout/blobs/$xm_blob" --directory "$xm_layer" --no-same-owner --delay-directory-restore \
      --exclude='dev/*' --exclude='./dev/*' || return
    chmod -R u+rwX "$xm_layer"
    merge || return
    rm -rf "$xm_layer"
  done < "$xm_layout/layers"
  write_rc && mksquashfs "$xm_root" "$1" -all-root -noappend -no-progress || return
  rm -rf "$xm_root"
}

unpack() (
  prepare
  enroot create --name "$xm_name" "$xm_layout.sqsh"
)

run_enroot() {
  once "$xm_layout.sqsh" convert_to_squashfs
  [ -e "$xm_layout.sqsh" ] || explain convert
  xm_variables=$xm_scratch/variables
  (umask 077 && : > "$xm_variables")
  for xm_variable in $(given); do
    is_set "$xm_variable" && eval "export_to \"\$xm_variables\" \"\$xm_variable\" \"\$$xm_variable\""
  done
  xm_made=0
  while [ "$1" != -- ]; do
    case $1 in
      bind | bind-ro)
        case $2$3 in
          *[:[:space:]]*) fail "enroot mounts no folder with a colon or a space in its name: $2 at $3." ;;
        esac
        xm_how=x-create=auto,rbind
        [ "$1" = bind ] || xm_how=$xm_how,ro
        set -- "$@" --mount "$2:$3:none:$xm_how" && shift 3 && xm_made=$((xm_made + 2))
        ;;
      env) eval "export_to \"\$xm_variables\" \"\$2\" \"\$XM_ENV_$2\"" && unset "XM_ENV_$2" && shift 2 ;;
      pass) { ! is_set "$2" || eval "export_to \"\$xm_variables\" \"\$2\" \"\$$2\""; } && shift 2 ;;
      option) set -- "$@" "$2" && shift 2 && xm_made=$((xm_made + 1)) ;;
      *) fail "container.sh does not know the word $1." ;;
    esac
  done
  shift
  xm_words=$(($# - xm_made))
  # By this enroot's own hook brings the driver in.
  xm_devices=void
  [ "$xm_gpus" = 0 ] || xm_devices=all
  set -- "$@" --env "NVIDIA_VISIBLE_DEVICES=$xm_devices"
  set -- "$@" --mount "$xm_variables:/etc/xmanager:none:x-create=file,bind,ro" "$xm_name" "$xm_workdir"
  while [ "$xm_words" -gt 0 ]; do
    set -- "$@" "$1" && shift && xm_words=$((xm_words - 1))
  done
  guard
  if ! unpack > "$xm_scratch/said" 2>&1 8>&-; then
    enroot remove --force "$xm_name" > /dev/null 2>&1 8>&-
    explain unpack
  fi
  enroot start --rw "$@" 8>&-
  xm_code=$?
  enroot remove --force "$xm_name" > /dev/null 2>&1 8>&-
  finish "$xm_code"
}
