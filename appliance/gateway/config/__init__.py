# SPDX-License-Identifier: Apache-2.0
"""From a folder of YAML files to frozen, checked values: contract section 1.

``document`` reads one file (YAML 1.2 core schema, nothing executable) and remembers where each key stands; ``schema`` says which keys
there are; ``validate`` brings both together; ``references`` checks that names resolve; ``modes`` that nobody else can write;
``load.load_folder`` does it all and gives a ``Folder`` or a ``ConfigError`` that lists every problem as ``FILE:LINE: KEY: expected …``.
"""
