# Sourced by setup.sh and check_wheel.sh, in the repository's root.
#
#   install_torch VENV BUILD    installs the torch that constraints.txt pins; BUILD is cpu or auto
install_torch() {
  local venv=$1 build=$2 version
  version=$(sed -n 's/^torch==//p' constraints.txt)
  if [ "$build" = cpu ] && [ "$(uname)" = Darwin ]; then
    "$venv/bin/python" -m pip --disable-pip-version-check install -q "torch==$version"
  elif [ "$build" != cpu ] ||
    ! "$venv/bin/python" -m pip --disable-pip-version-check install -q "torch==$version+cpu"; then
    # pip finds no CPU build here. uv knows where torch's builds are.
    "$venv/bin/python" -m pip --disable-pip-version-check install -q uv
    "$venv/bin/uv" pip install -q --python "$venv/bin/python" --torch-backend "$build" \
      "torch==$version"
  fi
}
