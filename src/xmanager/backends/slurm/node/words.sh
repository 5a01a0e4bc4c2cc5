# Reads what an element is told, without a fork and without a shell's eyes on it. Part of element.sh.

# One word that was read: it belongs to part xm_part of what is told.
xm_take() {
  [ -n "$xm_is_word" ] || return 0
  if [ "$xm_part" = 0 ]; then
    case $xm_word in
    folder=*) xm_folder=${xm_word#*=} ;;
    cwd=*) xm_cwd=${xm_word#*=} ;;
    attempt=*) xm_first=${xm_word#*=} ;;
    title=*) xm_title=${xm_word#*=} ;;
    warn_after=*) xm_warn_after=${xm_word#*=} ;;
    end_after=*) xm_end_after=${xm_word#*=} ;;
    warn_signal=*) xm_warn_signal=${xm_word#*=} ;;
    grace=*) xm_grace=${xm_word#*=} ;;
    patience=*) xm_patience=${xm_word#*=} ;;
    setup=*) xm_setup=${xm_word#*=} ;;
    replicas=*) xm_replicas=${xm_word#*=} ;;
    kept=*) xm_kept=${xm_word#*=} ;;
    copy=*) xm_copy=${xm_word#*=} ;;
    esac
    return 0
  fi
  case $xm_part$xm_word in
  1secret=*)
    xm_name=${xm_word##*=}
    eval "xm_is_set=\${$xm_name+yes} xm_value=\${$xm_name-}"
    [ -n "$xm_is_set" ] || xm_missing=$xm_name
    xm_word=${xm_word#secret=}
    xm_word=env=${xm_word%%=*}=$xm_value
    ;;
  esac
  [ "$xm_part" != 1 ] || xm_words=$((xm_words + 1))
  xm_count=$((xm_count + 1))
  eval "xm_word_$xm_count=\$xm_word"
  xm_some="$xm_some \"\$xm_word_$xm_count\""
  case $xm_count in *00) xm_gather ;; esac
}

# A hundred words at a time are put to the list of their part: it would take a minute to copy it for each of 100,000.
xm_gather() {
  eval "xm_list_$xm_part=\$xm_list_$xm_part\$xm_some"
  xm_some=
}

# Reads the lines "$@": a word each, after a colon; after a plus what goes on behind a newline; a dash ends a part.
xm_read() {
  xm_part=0 xm_count=0 xm_words=0 xm_is_word= xm_missing= xm_some= xm_list_1= xm_list_2= xm_list_3=
  for xm_line do
    case $xm_line in
    :*)
      xm_take
      xm_word=${xm_line#:} xm_is_word=yes
      ;;
    +*) xm_word=$xm_word$xm_newline${xm_line#+} ;;
    -*)
      xm_take
      xm_gather
      xm_part=$((xm_part + 1)) xm_is_word=
      ;;
    esac
  done
  xm_take
  xm_gather
}
