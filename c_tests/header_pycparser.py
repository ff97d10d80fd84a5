"""Parses evl.h, preprocessed, with pycparser, and finds its functions and constants: header_pycparser.py <preprocessed header>"""

import sys

from pycparser import c_ast, c_parser

tree = c_parser.CParser().parse(open(sys.argv[1]).read(), "evl.h")
functions = set()
constants = set()
for node in tree.ext:
    if isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.FuncDecl) and node.name.startswith("evl_"):
        functions.add(node.name)
    if isinstance(node, c_ast.Typedef) and isinstance(node.type, c_ast.TypeDecl) and isinstance(node.type.type, c_ast.Enum):
        constants.update(value.name for value in node.type.type.values.enumerators)
assert "evl_loop_new" in functions, "evl_loop_new is not declared"
assert "EVL_ECLOSED" in constants, "EVL_ECLOSED is not a constant"
print(len(functions), "functions,", len(constants), "constants")
