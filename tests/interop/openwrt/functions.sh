# shellcheck shell=sh disable=SC2034
# What of OpenWrt's /lib/functions.sh the package uses: UCI files are shell, their words call these.
reset_cb() {
	config_cb() { return 0; }
	option_cb() { return 0; }
	list_cb() { return 0; }
}
reset_cb

package() {
	return 0
}

config() {
	local cfgtype="$1"
	local name="$2"
	sections_count=$((sections_count + 1))
	CONFIG_SECTION=${name:-cfg$sections_count}
	config_cb "$cfgtype" "$CONFIG_SECTION"
}

option() {
	local varname="$1"
	shift
	local value="$*"
	eval "CONFIG_${CONFIG_SECTION}_${varname}=\$value"
	option_cb "$varname" "$*"
}

list() {
	local varname="$1"
	shift
	local value="$*"
	local len=0
	list_cb "$varname" "$*"
}

config_load() {
	local DATA
	DATA=$(cat "/etc/config/$1")
	eval "$DATA"
	config_cb
}

config_get() {
	eval "$1=\${CONFIG_${2}_$3}"
}

config_get_bool() {
	local _tmp
	config_get _tmp "$2" "$3"
	case $_tmp in
	1 | on | true | yes | enabled) eval "$1=1" ;;
	0 | off | false | no | disabled) eval "$1=0" ;;
	*) eval "$1=\$4" ;;
	esac
}
